"""The demo as CI sees it: no terminal, nothing configured, every claim observed."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec
import pytest

from demo.acts import ACTS
from demo.received import contract_in
from headwater.contract.assembly import Request, prepare, splice
from headwater.contract.content import canonical_bytes, content
from headwater.contract.digest import Digest
from tests.cluster.waiting import scaled

ROOT: Final = Path(__file__).parents[2]
CLAIMS: Final = 9
TRACES: Final = ("Traceback", "Warning", "\x1b[")
"""What has no place in the output of a run without a terminal."""


def environment(**added: str) -> dict[str, str]:
    """This process's own, without what would choose another cluster or change the output."""
    away = {"KEEP", "HEADWATER_CLUSTER", "FORCE_COLOR"}
    return {key: value for key, value in os.environ.items() if key not in away} | added


@pytest.mark.e2e
def test_everything_that_the_demo_claims_is_observed() -> None:
    """Exit 0, five acts, and a closing table in which every row holds."""
    done = subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=scaled(240),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [trace for trace in TRACES if trace in done.stdout + done.stderr] == []
    for number, act in enumerate(ACTS, 1):
        assert f"{number} of {len(ACTS)}  {act.sentence}" in done.stdout
    _, _, table = done.stdout.partition("What was shown")
    assert len(re.findall("✓", table)) == CLAIMS
    assert "✗" not in table


@pytest.mark.e2e
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(how: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C, or a CI's end of patience, ends every process and removes every file."""
    with subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=ROOT,
        env=environment(TMPDIR=str(tmp_path)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        try:
            # A claim of the first act: everything runs by then.
            seen = next(line for line in demo.stdout if "The next one reads it" in line)
            demo.send_signal(how)
            rest = demo.stdout.read()
        finally:
            demo.kill()
    assert seen
    assert demo.returncode == 130, rest
    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []


def processes_in(directory: Path) -> list[str]:
    """Command lines of the processes that work in the directory, or name it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            place = str((process / "cwd").readlink())
        except OSError:  # ended meanwhile, or another user's
            continue
        if str(directory) in command or place.startswith(str(directory)):
            found.append(command)
    return found


@pytest.mark.parametrize(
    "suffix", [None, "Answer shortly.", [{"type": "text", "text": "Be brief."}]]
)
def test_the_contract_is_found_in_a_request_by_its_bytes(suffix: object) -> None:
    """Whatever a team adds, the digest of what stands before it is the contract's, or is not."""
    canonical = canonical_bytes(
        content(
            tools=[{"name": "find", "input_schema": {"type": "object"}}],
            system=[{"text": "One."}, {"text": "Two. é"}],
            ttl="5m",
        )
    )
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "?"}]}
    asked = body if suffix is None else {**body, "system": suffix}
    sent = splice(Request.read(msgspec.json.encode(asked)), prepare(canonical), ["m"]).body
    assert contract_in(sent) == Digest.of(canonical)
    assert contract_in(sent.replace(b"One.", b"0ne.")) != Digest.of(canonical)
