"""Control planes that are handed from test to test."""

import os
from collections.abc import Iterator

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.integration.lending import Audit, Lender, Lent


@pytest.fixture(scope="session")
def lender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lender]:
    """Who has this worker's control planes."""
    if os.environ.get("HEADWATER_CLUSTER"):
        pytest.skip("needs a control plane for itself: unset HEADWATER_CLUSTER")
    with Lender(tmp_path_factory.mktemp("lent")) as lender:
        yield lender


@pytest.fixture
def lent(lender: Lender) -> Iterator[Lent]:
    """A control plane for one test alone, with the CRDs; another test had it before."""
    with lender.lent() as lent:
        yield lent


@pytest.fixture
def lent_control_plane(lent: Lent) -> ControlPlane:
    """The control plane that is lent to the test; it may stop or pause the API server."""
    return lent.plane


@pytest.fixture
def bare_control_plane() -> Iterator[ControlPlane]:
    """A new control plane, which knows nothing of ours: definitions do not end soon enough."""
    if os.environ.get("HEADWATER_CLUSTER"):
        pytest.skip("needs a cluster without our definitions: unset HEADWATER_CLUSTER")
    with ControlPlane() as plane:
        yield plane


@pytest.fixture
def audit(lent: Lent) -> Audit:
    """What the API server of `lent_control_plane` is asked from now on."""
    return lent.audit
