"""One control plane for these tests: what is configured on it would hold for all pods of others."""

from collections.abc import Iterator

import pytest

from tests.integration.controller.harness import Api
from tests.integration.deployed import ACCOUNTS, deploy
from tests.integration.lending import Lender
from tests.integration.webhook.authority import Authority
from tests.integration.webhook.harness import Replica, Site, as_account


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory, lender: Lender) -> Iterator[Site]:
    """The control plane, with the webhook's account."""
    directory = tmp_path_factory.mktemp("webhook")
    authority = Authority(directory / "authority")
    with lender.lent() as lent, Api(lent.plane) as api:
        plane = lent.plane
        deploy(plane, *ACCOUNTS)
        account = as_account(plane, directory / "kubeconfig")
        yield Site(plane, api, account, authority, directory)


@pytest.fixture(scope="package")
def replica(site: Site) -> Iterator[Replica]:
    """The replica that most tests ask."""
    with site.replica("--drain-seconds", "0") as replica:
        site.ask(replica.port)
        yield replica
        assert "Traceback" not in replica.said(), replica.said()
