"""What the acts have in common: the stage, the last look, and a user's means.

A user runs commands, commits a manifest, asks a model a question, and waits for what should
follow. Nothing here knows the story.
"""

import asyncio
import re
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from demo import commits
from demo.observe import Observer, Seen
from demo.stage import WAIT_SECONDS, DemoError, Mount, Stage
from demo.traffic import MAX_TOKENS, Consumer, Traffic, ask
from demo.view import View
from headwater.providers.usage import Usage
from tests.cluster.waiting import Limit

_LOOK_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Shown:
    """A row of the closing table."""

    claim: str
    seen: str
    held: bool = True


@dataclass
class Play:
    """What the acts have in common."""

    stage: Stage
    view: View
    observer: Observer
    simulator: str = ""
    traffic: Traffic = field(default_factory=Traffic)
    consumers: dict[str, Consumer] = field(default_factory=dict)
    """By team, as the mounts and the metrics URLs of their sidecars."""
    mounts: dict[str, Mount] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)
    published: dict[str, str] = field(default_factory=dict)
    """The digest of every version that was committed."""

    @property
    def seen(self) -> Seen:
        """The last look."""
        return self.observer.seen

    async def run(self, command: str) -> str:
        """Run a command, show it and what it printed."""
        printed = await self.stage.shell(command)
        self.view.command(command)  # now, so that no Event comes between it and its output
        self.view.output(printed)
        return printed

    async def refused(self, command: str) -> str:
        """Run a command that is refused, show it and what it said."""
        said = await self.stage.refused(command)
        self.view.command(command)
        self.view.output(said)
        return said

    def start(self, name: str, *arguments: str, kubeconfig: Path | None = None) -> None:
        """Show `headwater …` and start it under a name."""
        account = f"KUBECONFIG={kubeconfig.name} " if kubeconfig else ""
        self.view.command(account + shlex.join(["headwater", *arguments]))
        self.stage.start(name, *arguments, kubeconfig=kubeconfig)

    async def commit(self, change: Callable[[Any], None]) -> None:
        """Change the manifest as its author would, name its bytes, and apply it."""
        path = self.stage.work / commits.MANIFEST
        before = path.read_text()
        commits.edit(path, change)
        self.view.output(commits.diff(before, path.read_text()))
        printed = await self.run(f"headwater digest --write -f {commits.MANIFEST}")
        digest, _, version = printed.split()
        self.published[version] = digest
        await self.run(f"kubectl apply -f {commits.MANIFEST}")

    async def until(self, condition: Callable[[Seen], Any], what: str) -> None:
        """Wait for something to be seen."""
        await self.stage.until(lambda: condition(self.seen) or None, what, "controller")

    async def ask_once(self, consumer: Consumer, model: str, key: str | None = None) -> Usage:
        """One question in a conversation of its own; what the provider says that it used."""
        async with consumer.client(key) as client:
            answer = await ask(
                client,
                consumer.team,
                {
                    "model": model,
                    "max_tokens": MAX_TOKENS,
                    "system": consumer.team.system,
                    "messages": [{"role": "user", "content": consumer.team.questions[0]}],
                    "metadata": {"user_id": f"one-question-{time.monotonic_ns()}"},
                },
            )
        return Usage(
            uncached=answer.usage.input_tokens,
            cache_read=answer.usage.cache_read_input_tokens or 0,
            cache_write_5m=answer.usage.cache_creation_input_tokens or 0,
            output=answer.usage.output_tokens,
        )

    async def until_ready(self, team: str, pattern: str) -> str:
        """Wait until a sidecar's whole /readyz matches and is no failure; what it says."""
        url = self.metrics[team].removesuffix("/metrics") + "/readyz"
        limit = Limit(WAIT_SECONDS)
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.get(url) as answer:
                    text = (await answer.text()).strip()
                    if answer.ok and re.fullmatch(pattern, text, re.DOTALL):
                        return text
                if limit.passed():
                    raise DemoError(f"the sidecar of {team} says {text!r}, not {pattern!r}")
                self.stage.check_alive()
                await asyncio.sleep(_LOOK_SECONDS)
