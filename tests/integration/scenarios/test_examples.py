"""The manifests of `examples/rollouts`, as a reader would use them."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from headwater.cli import main
from headwater.cluster import NAMESPACE
from tests.integration.controller.harness import ROOT
from tests.integration.scenarios.world import Site

pytestmark = pytest.mark.xdist_group("scenarios")

EXAMPLES = sorted((ROOT / "examples" / "rollouts").glob("*.yaml"))


@pytest.fixture
def namespace(site: Site) -> None:
    """The one that the examples name."""
    if site.api.find(NAMESPACE, None, "ai-platform") is None:
        site.api.create(NAMESPACE, {"metadata": {"name": "ai-platform"}})


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_each_is_taken_and_declares_its_digest(example: Path, site: Site) -> None:
    """Strictly and without a warning."""
    done = site.plane.kubectl(
        *("apply", "--server-side", "--dry-run=server", "--warnings-as-errors", "-f", str(example))
    )
    assert done.stderr == ""
    assert "promptprefix.headwater.dev/" in done.stdout
    checked = CliRunner().invoke(main, ["digest", "--check", "-f", str(example)])
    assert (checked.exit_code, checked.stderr) == (0, "")
