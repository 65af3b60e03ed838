"""What the images are, as whoever runs or scans them sees it."""

import json
from pathlib import Path
from typing import Final

import pytest

from tests.cluster import images

pytestmark = pytest.mark.e2e

ROOT: Final = Path(__file__).parents[3]
MEGABYTES: Final = {images.SIDECAR: 45, images.OPERATOR: 260}
BUILDS: Final = ("/pip/", "/setuptools/", "/wheel/", "/gcc", "/cc1", "/.cache/")
"""What builds, in the paths of what is installed on top of the base."""


@pytest.fixture(scope="module", autouse=True)
def _built(beside_others: None) -> None:
    del beside_others
    if lacking := images.missing():
        pytest.skip(lacking)
    images.archives()


@pytest.mark.parametrize("image", MEGABYTES)
def test_it_is_small(image: str) -> None:
    """On top of its base there is little, and nothing that only a build needs."""
    base, files = images.files(images.base()), images.files(image)
    assert (sum(files.values()) - sum(base.values())) / 1e6 < MEGABYTES[image]
    added = sorted(files.keys() - base.keys())
    assert [path for path in added if any(part in path for part in BUILDS)] == []
    assert {path.split("/")[2] for path in added if path.startswith("/opt/")} == {"headwater"}


@pytest.mark.parametrize("image", MEGABYTES)
def test_it_is_compiled(image: str) -> None:
    """Every module has its bytecode, since nothing can be written where it runs."""
    files = images.files(image).keys()
    modules = {path for path in files if path.startswith("/opt/") and path.endswith(".py")}
    compiled = {
        f"{path.rpartition('/__pycache__/')[0]}/{Path(path).name.split('.')[0]}.py"
        for path in files
        if path.endswith(".pyc")
    }
    named = {path for path in modules if "." not in Path(path).stem}
    assert sorted(named - compiled) == []


@pytest.mark.parametrize("image", MEGABYTES)
def test_it_says_what_it_is(image: str) -> None:
    """A user by number who is not root, labels by the OCI convention, and a list of its parts."""
    config = images.config(image)
    name = image.removeprefix("localhost/").partition(":")[0]
    assert config["User"] == "65532:65532"
    labels = {
        key.removeprefix("org.opencontainers.image."): value
        for key, value in config["Labels"].items()
    }
    assert (labels["title"], labels["licenses"]) == (name, "Apache-2.0")
    assert labels["base.name"] == images.base()
    assert labels.keys() >= {"description", "revision", "version"}
    parts = json.loads((ROOT / "build" / "image" / f"{name}.cdx.json").read_text())
    assert parts["bomFormat"] == "CycloneDX"
    named = {part["name"] for part in parts["components"]}
    assert named >= {"headwater", "httptools", "msgspec"}
    assert ("kopf" in named) == (image == images.OPERATOR)


def test_it_is_reproducible() -> None:
    """Built again from nothing, it has the same digest."""
    images.product("again", "--no-cache")
    for image in MEGABYTES:
        again = image.replace(f":{images.TAG}", ":again")
        assert images.digest(again) == images.digest(image)
