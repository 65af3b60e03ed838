"""`headwater record` and `headwater bisect` around programs that use the real SDK."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from headwater.cli import main
from headwater.client.audit import audit
from headwater.client.capture import capture
from tests.cluster.waiting import scaled
from tests.integration.test_simulator_sdk import simulator

pytestmark = pytest.mark.xdist_group("simulator-sdk")

HEADWATER = Path(sys.executable).with_name("headwater")
SYSTEM = "You are the billing assistant. " * 700
KEY = "sk-ant-a-secret"
PROGRAM = """
import sys
import anthropic

client = anthropic.Anthropic(max_retries=0)
MARKER = {"cache_control": {"type": "ephemeral"}}
for number in range(2):
    system = [{"type": "text", "text": sys.argv[1].replace("#", str(number)), **MARKER}]
    request = {"model": "claude-opus-4-8", "max_tokens": 9, "system": system}
    request["messages"] = [{"role": "user", "content": "a private question"}]
    client.messages.create(**request)
    with client.messages.stream(**request) as stream:
        print(sum(event.type == "content_block_delta" for event in stream))
try:
    client.messages.create(**{**request, "model": "claude-none"})
except anthropic.NotFoundError:
    sys.exit(7)
"""

WITHOUT_SDK = """
import json, os, sys, urllib.request

headers = {"x-api-key": os.environ["ANTHROPIC_API_KEY"], "anthropic-version": "2023-06-01"}
for number in range(2):
    body = {
        "model": "claude-opus-4-8",
        "max_tokens": 9,
        "system": sys.argv[1].replace("#", str(number)),
        "messages": [{"role": "user", "content": "a private question"}],
    }
    url = os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages"
    urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)).read()
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with simulator() as (_, address):
        yield address


def record(
    url: str, file: Path, *options: str, program: str = PROGRAM, system: str = SYSTEM
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HEADWATER, "record", "-o", file, *options, "--", sys.executable, "-c", program, system],
        env={
            "PATH": os.environ["PATH"],
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": KEY,
            "HTTP_PROXY": "http://127.0.0.1:9",  # nobody is there, and nobody has to be
            "NO_PROXY": url.removeprefix("http://"),
        },
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
    )


def read(file: Path) -> list[bytes]:
    return file.read_bytes().splitlines()


def test_what_a_program_asks_is_recorded_with_what_it_used(url: str, tmp_path: Path) -> None:
    """Each request once, in order, as it was sent; the program sees no difference."""
    file = tmp_path / "requests.jsonl"
    done = record(url, file, "--team", "billing")
    assert done.returncode == 7, done.stderr
    assert done.stdout == "2\n2\n"
    assert done.stderr == f"5 requests recorded in {file}\n"
    lines: list[dict[str, Any]] = [json.loads(line) for line in read(file)]
    assert [line["status"] for line in lines] == [200, 200, 200, 200, 404]
    assert [line["request"].get("stream") for line in lines] == [None, True, None, True, None]
    assert {line["team"] for line in lines} == {"billing"}
    written, *others = [line["usage"]["cache_creation_input_tokens"] for line in lines[:4]]
    assert [line["usage"]["cache_read_input_tokens"] for line in lines[:4]] == [0, *[written] * 3]
    assert written > 4000
    assert others == [0] * 3
    assert lines[1]["usage"]["output_tokens"] == 9
    (group,) = audit(read(file)).groups
    assert (group.name, group.requests, group.read) == ("billing", 4, 3 * written)
    (found,) = capture(read(file))
    assert [block["text"] for block in found.content.system] == [SYSTEM]
    assert KEY.encode() not in file.read_bytes()


def test_with_privacy_hashes_are_kept_and_lose_the_audit_nothing(url: str, tmp_path: Path) -> None:
    """The same cause and the same tokens as of the whole requests."""
    plain, hidden = tmp_path / "plain.jsonl", tmp_path / "hidden.jsonl"
    for file, options in ((plain, ()), (hidden, ("--privacy", "hash"))):
        record(url, file, *options, program=WITHOUT_SDK, system=f"At 2026-11-2# {SYSTEM}")
    for secret in (b"private", b"billing", KEY.encode()):
        assert secret not in hidden.read_bytes()
    (one,), (two,) = (audit(read(file)).findings for file in (plain, hidden))
    assert one.cause == two.cause == "volatile"
    assert (one.place, one.times, one.tokens, one.usd) == (
        two.place,
        two.times,
        two.tokens,
        two.usd,
    )
    refused = CliRunner().invoke(main, ["capture", str(hidden)])
    assert "line 1: it was recorded as hashes" in refused.output


def test_what_cannot_be_recorded_is_said_and_nothing_is_run(url: str, tmp_path: Path) -> None:
    """A file that is there stays as it is; a program that is not there leaves none."""
    file = tmp_path / "requests.jsonl"
    file.write_text("mine")
    for options, said in (
        (("--", "true"), "requests.jsonl is there already"),
        (("-o", str(tmp_path / "x"), "--upstream", "nowhere", "--", "true"), "no http:// or"),
        (("-o", str(tmp_path / "none" / "x"), "--", "true"), "No such file"),
        (("-o", str(tmp_path / "y"), "--", "no-such-program"), "no-such-program: No such file"),
        (("-o", str(tmp_path / "z")), "Missing argument"),
    ):
        done = CliRunner().invoke(main, ["record", "-o", str(file), *options])
        assert done.exit_code in (1, 2)
        assert said in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["requests.jsonl"]
    assert file.read_text() == "mine"


def test_a_signal_ends_the_program_and_keeps_what_was_recorded(url: str, tmp_path: Path) -> None:
    """And its exit code is ours, as a shell gives it."""
    with subprocess.Popen(
        [HEADWATER, "record", "-o", tmp_path / "x", "--", "sh", "-c", "echo up; exec sleep 60"],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(scaled(30)) == 128 + signal.SIGTERM
    assert (tmp_path / "x").read_bytes() == b""


PRINTS = """
import json, pathlib
text = pathlib.Path("system.txt").read_text()
print(json.dumps({"model": "claude-opus-4-8", "system": text, "messages": []}))
"""
SENDS = """
import json, os, pathlib, urllib.request
body = json.dumps(
    {
        "model": "claude-opus-4-8",
        "max_tokens": 9,
        "system": pathlib.Path("system.txt").read_text(),
        "messages": [{"role": "user", "content": "hi"}],
    }
)
headers = {"x-api-key": os.environ["ANTHROPIC_API_KEY"], "anthropic-version": "2023-06-01"}
url = os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages"
urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers)).read()
"""


def git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", repository, *arguments],
        env={
            "PATH": os.environ["PATH"],
            "GIT_CONFIG_GLOBAL": "/dev/null",
            **dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "Ada"),
            **dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "ada@example.com"),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight commits; the sixth changes the prefix, and at the fourth a program fails."""
    root = tmp_path_factory.mktemp("repository")
    git(root, "init", "--quiet", "--initial-branch", "main")
    (root / "app").mkdir()
    for number in range(1, 9):
        (root / "app/notes.txt").write_text(str(number))
        (root / "app/prints.py").write_text("1 / 0" if number == 4 else PRINTS)
        (root / "app/sends.py").write_text(SENDS)
        (root / "app/system.txt").write_text("Be brief. " + ("Today is Monday." * (number >= 6)))
        git(root, "add", ".")
        git(root, "commit", "--quiet", "-m", f"commit {number}")
        if number == 1:
            git(root, "tag", "v1")
    (root / "app/notes.txt").write_text("not committed")
    return root


def bisect(repository: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.chdir(repository / "app")
    return CliRunner().invoke(main, ["bisect", *arguments])


@pytest.mark.parametrize("program", ["prints.py", "sends.py"])
def test_the_commit_that_changed_the_prefix_is_found(
    repository: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """Printed or sent to the provider; nothing of the caller's repository is another."""
    states = ("status", "--porcelain"), ("branch",), ("worktree", "list"), ("for-each-ref",)
    before = [git(repository, *state) for state in states]
    done = bisect(repository, monkeypatch, "--", sys.executable, program)
    assert done.exit_code == 0, done.output
    commit, cause, was, now = done.output.splitlines()
    assert commit.endswith(": commit 6")
    assert commit.split()[1] == "Ada,"
    assert cause.startswith("system_changed at system[0]: ")
    assert was.startswith("   was: ")
    assert "Today is Monday." in now
    assert [git(repository, *state) for state in states] == before
    assert (repository / "app/notes.txt").read_text() == "not committed"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--good", "v1", "--bad", "HEAD~4", "--", "cat", "system.txt"], "is that at v1"),
        (["--good", "HEAD~4", "--", sys.executable, "prints.py"], "sent nothing and failed with 1"),
        (["--good", "HEAD~1", "--", "true"], "true neither sent nor printed anything"),
        (["--", "sh", "-c", "echo $$"], "two runs at v1 give two prefixes"),
        (["--good", "v9", "--", "true"], "git rev-parse: fatal"),
        (["--bad", "v1", "--good", "HEAD", "--", "cat", "notes.txt"], "git bisect: "),
        (["--", "no-such-program"], "no-such-program: No such file"),
    ],
)
def test_what_cannot_be_bisected_is_said(
    repository: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    assert said in bisect(repository, monkeypatch, *arguments).output
    assert len(git(repository, "worktree", "list").splitlines()) == 1
