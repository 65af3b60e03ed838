"""`headwater bisect`: the commit that changed the prefix, found in a work tree of its own."""

import asyncio
import datetime as dt
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from headwater.cli._program import BY_SIGNAL, recording, run
from headwater.client.audit import REMEDY, Recorded, difference, excerpts, recorded
from headwater.client.recording import Recorder
from headwater.simulator.server import Settings, serving

_FOUND: Final = " is the first bad commit"
_OF_A_HOOK: Final = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
"""Variables that would lead git back into the caller's work tree."""
_AT_ONCE: Final = Settings(latency_base_ms=0, latency_ms_per_1k=0)

Prefixes = list[Recorded]
"""What a program puts before its messages, each once, in the order in which it is first sent."""


class _NoPrefixError(Exception):
    """A program sent nothing, and failed or printed nothing; the message says which."""


@click.command(name="bisect", context_settings={"ignore_unknown_options": True})
@click.argument("command_line", metavar="-- COMMAND", nargs=-1, required=True)
@click.option("--good", metavar="REV", help="Where it was as it should be.  [default: last tag]")
@click.option("--bad", metavar="REV", default="HEAD", show_default=True, help="Where it is not.")
def command(command_line: tuple[str, ...], good: str | None, bad: str) -> None:
    """Find the commit after which the prefix that COMMAND sends or prints is another.

    COMMAND runs in a work tree of its own, at some of the commits between the two; yours is left as
    it is. What it asks the provider at ANTHROPIC_BASE_URL is answered here, for nothing. If it asks
    nothing, it prints a request as JSON, or the prefix as text. A commit at which it does neither
    is passed over.
    """
    root = Path(_git(Path.cwd(), "rev-parse", "--show-toplevel"))
    below = _git(Path.cwd(), "rev-parse", "--show-prefix")
    good = good or _last_tag(root, bad)
    first, last = (_git(root, "rev-parse", "--verify", f"{rev}^{{commit}}") for rev in (good, bad))
    with _work_tree(root, first) as tree:

        def seen() -> Prefixes:
            found = asyncio.run(_prefixes(command_line, tree / below))
            # What it changed would be in the way of the next checkout.
            _git(tree, "reset", "--hard", "--quiet")
            return found

        try:
            before, again = seen(), seen()
            _git(tree, "checkout", "--quiet", last)
            after = seen()
        except _NoPrefixError as error:
            raise click.ClickException(f"at {_commit(tree)}: {error}") from error
        if not _alike(before, again):
            raise click.ClickException(
                f"two runs at {good} give two prefixes: headwater.assert_stable says why."
            )
        if _alike(before, after):
            click.echo(
                f"The prefix at {bad} is that at {good}. If it should not be: does COMMAND run the"
                " code of the directory that it is started in?"
            )
            return
        commit, after = _bisect(tree, (first, last), before, after, seen)
        click.echo(commit)
        _tell(before, after)


def _bisect(
    tree: Path,
    ends: tuple[str, str],
    before: Prefixes,
    after: Prefixes,
    seen: Callable[[], Prefixes],
) -> tuple[str, Prefixes]:
    """The first commit whose prefixes are not `before`, and its own; `after` are the last's."""
    first, last = ends
    known = {last: after}
    said = _git(tree, "bisect", "start", last, first)
    while _FOUND not in said:
        try:
            known[_git(tree, "rev-parse", "HEAD")] = found = seen()
            verdict = "good" if _alike(found, before) else "bad"
        except _NoPrefixError:
            verdict = "skip"
        said = _git(tree, "bisect", verdict)
    culprit = said.partition(_FOUND)[0].rpartition("\n")[2]
    return _commit(tree, culprit), known[culprit]


async def _prefixes(command_line: Sequence[str], directory: Path) -> Prefixes:
    lines: list[bytes] = []
    recorder = Recorder(lines.append, lambda: dt.datetime.now(dt.UTC), fields={}, privacy="text")
    async with serving(_AT_ONCE) as upstream, recording(recorder, upstream) as url:
        done = await run(
            command_line,
            url,
            directory=directory,
            variables={"ANTHROPIC_API_KEY": "not-a-key"},
            captured=True,
        )
    if done.code in (BY_SIGNAL + signal.SIGINT, BY_SIGNAL + signal.SIGTERM):
        raise click.Abort
    # An answer that makes no sense to it may have made it fail: what it asked counts all the same.
    requests = [msgspec.json.decode(line, type=_Line).request for line in lines]
    if not requests and done.code:
        raise _NoPrefixError(f"{command_line[0]} sent nothing and failed with {done.code}.")
    if not requests and not done.printed.strip():
        raise _NoPrefixError(f"{command_line[0]} neither sent nor printed anything.")
    found: Prefixes = []
    for request in requests or [msgspec.Raw(_printed(done.printed))]:
        one = recorded(bytes(request), 1, "")
        assert one is not None  # noqa: S101 - for the type checker: it has no status
        if not any(_alike([one], [other]) for other in found):
            found.append(one)
    return found


class _Line(msgspec.Struct):
    request: msgspec.Raw


def _printed(text: bytes) -> bytes:
    """What a program printed, as a request."""
    try:
        request = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        request = {}
    if not {"tools", "system"} & request.keys():
        request = {"system": text.decode("utf-8", "replace")}
    return msgspec.json.encode({"model": "", "messages": [], **request})


def _alike(ones: Prefixes, others: Prefixes) -> bool:
    def told(prefixes: Prefixes) -> list[Any]:
        return [
            (each.model, each.settings, [part.key for part in each.parts[: each.shared]])
            for each in prefixes
        ]

    return told(ones) == told(others)


def _tell(before: Prefixes, after: Prefixes) -> None:
    """The first prefix that is another, from the first part on that differs."""
    for one, two in zip_longest(before, after):
        if one is None or two is None:
            click.echo(f"Prefixes that it sends: {len(after)} and no longer {len(before)}.")
            return
        if not _alike([one], [two]):
            cause, place, *parts = difference(one, two, one.shared)
            was, now = excerpts(*parts)
            click.echo(f"{cause} at {place}: {REMEDY[cause]}\n   was: {was}\n   is:  {now}")
            return


@contextmanager
def _work_tree(root: Path, commit: str) -> Iterator[Path]:
    """Another work tree of the repository, with a bisection of its own."""
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory).resolve() / root.name
        _git(root, "worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            yield tree
        finally:
            _git(root, "worktree", "remove", "--force", str(tree))


def _last_tag(root: Path, bad: str) -> str:
    try:
        return _git(root, "describe", "--tags", "--abbrev=0", bad)
    except click.ClickException as error:
        raise click.UsageError(
            f"there is no tag before {bad}: say with --good where the prefix was as it should be."
        ) from error


def _commit(tree: Path, name: str = "HEAD") -> str:
    return _git(tree, "log", "-1", "--format=%h %an, %as: %s", name)


def _git(directory: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in _OF_A_HOOK}
    done = subprocess.run(  # noqa: S603 - the user's git, and revisions that the user names
        ["git", "-C", directory, "-c", "core.hooksPath=/dev/null", *arguments],  # noqa: S607
        env=environment | {"LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise click.ClickException(f"git {arguments[0]}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()
