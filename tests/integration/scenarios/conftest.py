"""A control plane of their own, with an audit log: each scenario has a controller of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.controller.harness import Api, Controller, reporting
from tests.integration.controller.team import new_team
from tests.integration.lending import Lender
from tests.integration.scenarios.provider import Provider, running
from tests.integration.scenarios.world import Site, World


@pytest.fixture(scope="package")
def site(lender: Lender) -> Iterator[Site]:
    """The control plane of all scenarios."""
    with lender.lent() as lent, Api(lent.plane) as api:
        yield Site(lent.plane, api, lent.audit)


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    """A provider with cold caches."""
    arguments = ("simulator", "--port", "0", "--latency-base-ms", "5")
    with running(tmp_path / "simulator.log", *arguments) as announced:
        yield Provider(announced("listening"))


@pytest.fixture
def world(site: Site, provider: Provider, tmp_path: Path) -> Iterator[World]:
    """A team that has published nothing yet."""
    with new_team(site.api) as team, World(site, team, provider, tmp_path) as world:
        yield world


@pytest.fixture
def controller(site: Site, provider: Provider, tmp_path: Path) -> Iterator[Controller]:
    """The controller of one scenario."""
    arguments = ("--provider-url", provider.url)
    with (
        Controller(site.plane.kubeconfig, tmp_path / "controller.log", *arguments) as controller,
        reporting(controller),
    ):
        yield controller
