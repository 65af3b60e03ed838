"""What the images are made of, by their lock files."""

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
NOT_IN_A_SIDECAR: Final = {"anthropic", "cryptography", "kopf", "kubernetes", "pydantic"}


def locked(name: str) -> dict[str, str]:
    """The version of each package in a lock file."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9][a-z0-9.-]*)==([^\s;]+)", text, re.MULTILINE))


def test_a_sidecar_is_small() -> None:
    """One runs in every consumer pod: nothing that only an operator needs is among its packages."""
    assert not NOT_IN_A_SIDECAR - locked("operator").keys()
    assert not NOT_IN_A_SIDECAR & locked("sidecar").keys()


@pytest.mark.parametrize("extra", ["sidecar", "operator"])
def test_an_image_has_what_was_tested(extra: str) -> None:
    """Its packages have the versions that the tests run with, and none is missing."""
    assert locked(extra).items() <= locked("dev").items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"][extra]]
    names = {re.split(r"[\[<>=!~; ]", each)[0] for each in wanted}
    assert names - {"headwater"} <= locked(extra).keys()


@pytest.mark.parametrize("name", ["sidecar", "operator", "image", "dev"])
def test_every_package_is_checked(name: str) -> None:
    """Each has its hashes, and no file says where packages come from."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    for package in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE):
        if "==" in package:
            assert "--hash=sha256:" in package, package
    assert "://" not in text
