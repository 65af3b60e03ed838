"""The simulator as a process, and what it recorded; the way in which any role is started."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from demo.received import contract_in
from tests.cluster.forks import Forked
from tests.cluster.waiting import scaled, wait_until
from tests.integration.controller.team import PATIENCE


@contextmanager
def running(
    log: Path, *arguments: str, interpreter: Sequence[str] = ()
) -> Iterator[Callable[[str], str]]:
    """`headwater …` as a process; what is yielded gives the URL after `<word> on`.

    `interpreter` is another Python than the console script's own, with its options.
    """
    with log.open("wb") as output:
        environ = {**os.environ, "NO_PROXY": "127.0.0.1"}
        process = (
            subprocess.Popen(
                [*interpreter, Path(sys.executable).with_name("headwater"), *arguments],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            if interpreter
            else Forked(arguments, environ, stdout=output)
        )

    def announced(word: str) -> str:
        def found() -> str | None:
            match = re.search(rf"{word} on (http://\S+)", log.read_text())
            return match[1] if match else None

        return str(wait_until(found, PATIENCE, f"{arguments[0]} says what it is {word} on"))

    try:
        yield announced
    finally:
        process.terminate()
        try:
            process.wait(scaled(30))
        finally:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Received:
    """A request as the provider recorded it.

    Attributes:
        digest: of the contract that is in its very bytes.
        wrote: tokens written to the cache; `read` those read from it.
        workspace: whose caches they are.
    """

    number: int
    digest: str
    body: str
    wrote: int
    read: int
    workspace: str


@dataclass(frozen=True)
class Provider:
    """The simulator."""

    url: str

    def received(self, after: int = 0) -> list[Received]:
        """What was answered, oldest first; it remembers a thousand."""
        with urlopen(f"{self.url}/_simulator/requests?bodies=1", timeout=scaled(30)) as answer:
            records = json.load(answer)
        assert not records or records[0]["number"] <= after + 1, "the first are forgotten"
        return [
            Received(
                record["number"],
                contract_in(record["body"].encode()),
                record["body"],
                record["usage"]["cache_write_5m"],
                record["usage"]["cache_read"],
                record["workspace"],
            )
            for record in records
            if record["number"] > after and record["status"] == 200
        ]

    @property
    def last(self) -> int:
        """The number of the last request."""
        with urlopen(f"{self.url}/_simulator/requests", timeout=scaled(30)) as answer:
            return max((int(record["number"]) for record in json.load(answer)), default=0)
