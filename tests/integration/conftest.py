"""A control plane that is handed from test to test."""

import os
from collections.abc import Iterator

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.integration.lending import Audit, Lender


@pytest.fixture(scope="session")
def lender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lender]:
    """Who has this worker's control plane."""
    if os.environ.get("HEADWATER_CLUSTER"):
        pytest.skip("needs a control plane for itself: unset HEADWATER_CLUSTER")
    with Lender(tmp_path_factory.mktemp("lent")) as lender:
        yield lender


@pytest.fixture
def lent_control_plane(lender: Lender) -> Iterator[ControlPlane]:
    """A control plane for one test alone, with the CRDs; another test had it before."""
    with lender.lent() as plane:
        yield plane


@pytest.fixture
def audit(lender: Lender, lent_control_plane: ControlPlane) -> Audit:
    """What its API server is asked from now on."""
    return Audit.from_now(lender.audit_log)
