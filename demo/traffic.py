"""Three teams that talk to the model all the time, each through its own sidecar.

They use the provider's own SDK and know nothing of Headwater but the address. Retries are off, so
that no error is hidden, and the rate is bounded by conversations in flight.
"""

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from anthropic import AnthropicError, AsyncAnthropic

from demo.observe import NAME, NAMESPACE
from tests.cluster.waiting import scaled

MODELS: Final = ("claude-opus-5", "claude-opus-4-8")
BUNDLE: Final = f"headwater.{NAMESPACE}.{NAME}"
MAX_TOKENS: Final = 48
TURNS: Final = 3
_START_SECONDS: Final = 0.4
"""Between two conversations of a team."""
_THINK_SECONDS: Final = 0.1
"""Between an answer and the next question."""
_AT_ONCE: Final = 8
"""Conversations of a team in flight."""


@dataclass(frozen=True)
class Team:
    """A team as its pods' labels name it, and how its assistant talks."""

    name: str
    namespace: str
    surface: str
    system: str
    streams: bool
    questions: tuple[str, ...]

    @property
    def key(self) -> str:
        """Its API key, which only the simulator ever sees."""
        return f"sk-demo-{self.name}"


TEAMS: Final = (
    Team(
        name="service-desk",
        namespace="support",
        surface="chat",
        system="You answer in the chat window of the intranet: three sentences at most.",
        streams=True,
        questions=("My VPN drops every hour.", "And if I restart the router?", "Open a ticket."),
    ),
    Team(
        name="mailroom",
        namespace="support",
        surface="mail",
        system="You answer by mail: begin with a greeting, end with the desk's opening hours.",
        streams=False,
        questions=("How do I expense a train ticket?", "It was abroad.", "Thank you, and a taxi?"),
    ),
    Team(
        name="field-it",
        namespace="it-operations",
        surface="tablet",
        system="You talk to technicians on site: commands first, explanations after.",
        streams=True,
        questions=("Printer on floor 3 is offline.", "It has an address.", "Still nothing."),
    ),
)


@dataclass
class Consumer:
    """A team and the address that its application was given."""

    team: Team
    url: str

    def client(self, key: str | None = None) -> AsyncAnthropic:
        """The SDK as the application makes it."""
        return AsyncAnthropic(
            base_url=self.url, api_key=key or self.team.key, max_retries=0, timeout=scaled(30)
        )


async def ask(client: AsyncAnthropic, team: Team, request: dict[str, Any]) -> Any:
    """One message; the SDK's answer, whole, also where it was streamed.

    Raises:
        AnthropicError: the SDK raised it.
    """
    if not team.streams:
        return await client.messages.create(**request)
    async with client.messages.stream(**request) as stream:
        return await stream.get_final_message()


@dataclass
class Traffic:
    """The conversations of all teams, from `started` until cancelled.

    Attributes:
        conversations: how many were begun.
        problems: what applications saw that was not an answer.
    """

    consumers: list[Consumer] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    conversations: int = 0
    problems: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Wait for `started`, then talk until cancelled."""
        await self.started.wait()
        async with asyncio.TaskGroup() as group:
            for consumer in self.consumers:
                group.create_task(self._team(consumer))

    async def _team(self, consumer: Consumer) -> None:
        gate = asyncio.Semaphore(_AT_ONCE)
        models: Iterator[str] = itertools.cycle(MODELS)
        async with consumer.client() as client, asyncio.TaskGroup() as group:
            for number in itertools.count(1):
                await gate.acquire()
                talk = self._conversation(client, consumer.team, next(models), number)
                group.create_task(talk).add_done_callback(lambda _: gate.release())
                await asyncio.sleep(_START_SECONDS)

    async def _conversation(
        self, client: AsyncAnthropic, team: Team, model: str, number: int
    ) -> None:
        self.conversations += 1
        history: list[dict[str, Any]] = []
        for question in team.questions:
            history.append({"role": "user", "content": question})
            request = {
                "model": model,
                "max_tokens": MAX_TOKENS,
                "system": team.system,
                "messages": history,
                # What keeps a conversation on its version; the SDK's own field.
                "metadata": {"user_id": f"{team.name}-user-{number}"},
            }
            try:
                answer = await ask(client, team, request)
            except AnthropicError as error:
                self.problems.append(f"{team.name}: {type(error).__name__}: {error}")
                return
            history.append({"role": "assistant", "content": answer.content[0].text})
            await asyncio.sleep(_THINK_SECONDS)
