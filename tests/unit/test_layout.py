"""What an import costs and where packages may be: promises that a stray line would break."""

import functools
import subprocess
import sys
from pathlib import Path

import pytest

# In one worker: the processes that `imported` starts are most of what this costs.
pytestmark = pytest.mark.xdist_group("layout")

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "operator" / "headwater"
LARGE = {
    "aiohttp",
    "anthropic",
    "cronsim",
    "cryptography",
    "detect_secrets",
    "jsonschema_rs",
    "kopf",
    "kubernetes",
    "matplotlib",
    "opentelemetry",
    "prometheus_client",
    "pydantic",
    "re2",
    "requests",
    "rich",
    "ruamel",
    "uvloop",
    "websocket",
}
"""Each takes from 20 ms to 2 s. `websocket` tells of the synchronous half of `kubernetes`."""
API = {"aiohttp", "kubernetes", "pydantic"}
"""Every command that asks the API server."""
CONTENT = {"detect_secrets", "re2", "requests"}
"""Whoever lints content; detect_secrets brings `requests`."""
COMMANDS: dict[str, set[str]] = {
    "abort": {*API, "ruamel"},
    "advise": {"cronsim", "pydantic", "rich", "ruamel"},
    "audit": {"rich"},
    "bisect": {"aiohttp"},
    "capture": {"ruamel"},
    "cleanup": {*API, *CONTENT},
    "consumers": {*API, "rich"},
    "controller": {*API, *CONTENT, "cronsim", "kopf", "prometheus_client"},
    "cost": {"cronsim", "pydantic", "rich", "ruamel"},
    "diff": {*API, "rich", "ruamel"},
    "digest": {"pydantic", "ruamel"},
    "explain": {"rich"},
    "get": {*API, "rich"},
    "history": {*API, "rich"},
    "lint": {*CONTENT, "pydantic", "rich", "ruamel"},
    "record": {"rich"},
    "sidecar": {"prometheus_client", "uvloop"},
    "simulate_rollout": {"pydantic", "rich", "ruamel"},
    "simulator": {"aiohttp"},
    "steer": {*API, "ruamel"},
    "warm": {"aiohttp"},
    "webhook": {*API, *CONTENT, "cronsim", "prometheus_client"},
    "why": {*API, "rich"},
}
"""What a command's module loads of them. A row that grows is a slower start for somebody."""
IN_EACH = """
import importlib, os, sys
for modules in sys.argv[1:]:
    child = os.fork()
    if not child:
        for module in modules.split("+"):
            importlib.import_module(module)
        print(modules, *{name.partition(".")[0] for name in sys.modules}, flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{modules} cannot be imported")
"""


def modules(folder: Path) -> list[str]:
    """Return every module below a folder of the package, by its full name."""
    paths = (path.relative_to(PACKAGE.parent).with_suffix("") for path in folder.rglob("*.py"))
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in paths)


TRACING = "headwater.sidecar.tracing"
"""It is imported where tracing is switched on, and nowhere else."""
SIDECAR = "+".join(name for name in modules(PACKAGE / "sidecar") if name != TRACING)
COMMAND_LINE = [name for name in modules(PACKAGE / "cli") if "._" not in name]


@functools.cache
def imported() -> dict[str, set[str]]:
    """Return what stands in `sys.modules`, top level only, after each of these is imported.

    One interpreter starts, and forks for each.
    """
    done = subprocess.run(
        [sys.executable, "-c", IN_EACH, "sys", "headwater", SIDECAR, *COMMAND_LINE],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return {module: {*names} for module, *names in map(str.split, done.stdout.splitlines())}


def test_operator_is_a_source_root_and_no_package() -> None:
    """As a package it would shadow the standard library's `operator`."""
    assert (PACKAGE / "__init__.py").exists()
    assert not (PACKAGE.parent / "__init__.py").exists()


def test_a_sidecar_is_small() -> None:
    """One runs in every consumer pod: nothing of the operator's weight comes with it."""
    assert imported()[SIDECAR] & {*LARGE, "yaml"} <= COMMANDS["sidecar"]


@pytest.mark.parametrize("module", COMMAND_LINE)
def test_a_command_loads_what_it_needs(module: str) -> None:
    """A person waits for it, and so does each pod that starts."""
    command = module.removeprefix("headwater.cli").removeprefix(".")
    assert imported()[module] & LARGE == (COMMANDS[command] if command else set())


def test_the_library_is_light() -> None:
    """`import headwater` brings nothing but itself and the standard library."""
    foreign = imported()["headwater"] - set(sys.stdlib_module_names) - imported()["sys"]
    assert foreign == {"headwater"}
