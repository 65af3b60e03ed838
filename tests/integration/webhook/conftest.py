"""One control plane for these tests: what is configured on it would hold for all pods of others."""

from collections.abc import Iterator

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.integration.controller.harness import Api, install_crds
from tests.integration.deployed import ACCOUNTS, deploy
from tests.integration.webhook.authority import Authority
from tests.integration.webhook.harness import Replica, Site, as_account


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The control plane, with the webhook's account."""
    directory = tmp_path_factory.mktemp("webhook")
    authority = Authority(directory / "authority")
    with ControlPlane() as plane, Api(plane) as api:
        install_crds(plane)
        deploy(plane, *ACCOUNTS)
        account = as_account(plane, directory / "kubeconfig")
        yield Site(plane, api, account, authority, directory)


@pytest.fixture(scope="session")
def replica(site: Site) -> Iterator[Replica]:
    """The replica that most tests ask."""
    with site.replica("--drain-seconds", "0") as replica:
        site.ask(replica.port)
        yield replica
        assert "Traceback" not in replica.said(), replica.said()
