"""What an import costs and where packages may be: promises that a stray line would break."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIDECAR = ROOT / "operator" / "headwater" / "sidecar"


def imported_by(module: str) -> set[str]:
    """The top-level modules in a fresh process after it imported this one."""
    script = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=ROOT,
    )
    return set(done.stdout.split())


def test_operator_is_a_source_root_and_no_package() -> None:
    """As a package it would shadow the standard library's `operator`."""
    assert (ROOT / "operator" / "headwater" / "__init__.py").exists()
    assert not (ROOT / "operator" / "__init__.py").exists()


@pytest.mark.parametrize(
    "module",
    sorted(
        "headwater.sidecar." + ".".join(path.relative_to(SIDECAR).with_suffix("").parts)
        for path in SIDECAR.rglob("*.py")
    ),
)
def test_a_sidecar_is_small(module: str) -> None:
    """One runs in every consumer pod: nothing of the operator's weight comes with it."""
    imported = imported_by(module.removesuffix(".__init__"))
    assert "headwater" in imported
    assert not imported & {
        "kopf",
        "kubernetes",
        "pydantic",
        "anthropic",
        "ruamel",
        "rich",
        "aiohttp",
    }


def test_the_library_is_light() -> None:
    """`import headwater` brings nothing but itself and the standard library."""
    foreign = imported_by("headwater") - set(sys.stdlib_module_names) - imported_by("sys")
    assert foreign == {"headwater"}
