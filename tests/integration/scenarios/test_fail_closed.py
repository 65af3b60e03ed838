"""A mounted contract of which one byte is another: what was not verified is never sent."""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import anthropic
import pytest

from headwater.contract.assembly import prepare
from tests.cluster.waiting import scaled, wait_until
from tests.integration.scenarios.provider import Provider, running
from tests.unit.sidecar import bundles

pytestmark = pytest.mark.xdist_group("scenarios")

ATTEMPTS: Final = 3
ONE_POLL: Final = 0.5
SLACK: Final = 5.0
"""Seconds beyond a poll, on a machine that has other work."""
BLOCK: Final = {"type": "text", "text": "Answer for the shop."}
DEFERRED: Final = {"name": "ours", "input_schema": {"type": "object"}, "defer_loading": True}
SUFFIXES: Final[tuple[Mapping[str, Any], ...]] = (
    {},
    {"system": "Be brief."},
    {"system": "Today is 2026-11-21T09:00:00Z. " + "word " * 2_000},
    {"system": [BLOCK, {**BLOCK, "cache_control": {"type": "ephemeral"}}]},
    {"system": [BLOCK], "tools": [DEFERRED]},
    {"tools": [DEFERRED, {**DEFERRED, "name": "theirs"}]},
    {"thinking": {"type": "disabled"}},
)


@dataclass(frozen=True)
class Pod:
    """A sidecar of the team shop, and the file with the contract that it has mounted."""

    client: anthropic.Anthropic
    metrics: str
    contract: Path

    def flip(self) -> None:
        """Turn one bit of the mounted contract; the second time it is right again."""
        data = bytearray(self.contract.read_bytes())
        data[len(data) // 2] ^= 1
        self.contract.write_bytes(data)

    def ask(self, **fields: Any) -> None:
        """One request by the provider's SDK."""
        messages = [{"role": "user", "content": "Where is my order?"}]
        request: Any = {"model": bundles.MODEL, "max_tokens": 5, "messages": messages, **fields}
        self.client.messages.create(**request)

    def refused(self) -> int:
        """Violations that are counted for this team and surface."""
        with urlopen(f"{self.metrics}/metrics", timeout=scaled(30)) as answer:
            lines = re.findall(
                r"^headwater_contract_violations_total\{(.*)\} (\S+)$",
                answer.read().decode(),
                re.MULTILINE,
            )
        return sum(
            int(float(value))
            for labels, value in lines
            if {'team="shop"', 'surface="chat"'} <= set(labels.split(","))
        )

    def readiness(self) -> str:
        with urlopen(f"{self.metrics}/readyz", timeout=scaled(30)) as answer:
            text: str = answer.read().decode()
            return text


@contextmanager
def started(pod_directory: Path, provider: Provider, *interpreter: str) -> Iterator[Pod]:
    """A sidecar over what is mounted there."""
    (contract,) = (pod_directory / "..data").glob("[0-9a-f]*.json")
    arguments = ("--bundle", str(pod_directory), "--upstream", provider.url)
    who = ("--team", "shop", "--surface", "chat")
    ports = ("--port", "0", "--metrics-address", "127.0.0.1:0")
    with (
        running(
            pod_directory.with_suffix(".log"),
            *("sidecar", *arguments, *who, *ports),
            interpreter=interpreter,
        ) as announced,
        anthropic.Anthropic(
            api_key="sk-shop", base_url=announced("listening"), max_retries=0
        ) as client,
    ):
        yield Pod(client, announced("metrics"), contract)


@pytest.mark.parametrize("interpreter", [(), (sys.executable, "-O")], ids=["python", "python -O"])
def test_one_byte_is_enough(
    provider: Provider, tmp_path: Path, interpreter: tuple[str, ...]
) -> None:
    """Nothing is sent until it is right again; every attempt is counted, no suffix is refused."""
    declared = bundles.make(size=3_000)
    mounted = tmp_path / "bundle"
    bundles.mount(mounted, declared)
    (file,) = (mounted / "..data").glob("[0-9a-f]*.json")
    right = file.read_bytes()
    file.write_bytes(right.replace(b"steady", b"Steady", 1))
    with started(mounted, provider, *interpreter) as pod:
        for _ in range(ATTEMPTS):
            with pytest.raises(anthropic.InternalServerError, match="no verified bundle"):
                pod.ask()
        assert provider.last == 0
        assert pod.refused() == ATTEMPTS

        file.write_bytes(right)
        wait_until(lambda: asked(pod), ONE_POLL + SLACK, "the right bytes are sent")
        before = pod.refused()

        # What was verified stays in use, whatever becomes of the file.
        pod.flip()
        wait_until(lambda: "last good bundle" in pod.readiness(), ONE_POLL + SLACK, "it is noticed")
        for fields in SUFFIXES:
            pod.ask(**fields)
        pod.flip()
        wait_until(lambda: pod.readiness() == "ok\n", ONE_POLL + SLACK, "it is right again")
        pod.ask()
        assert pod.refused() == before
    received = provider.received()
    assert len(received) == 1 + len(SUFFIXES) + 1
    contract = prepare(right)
    for each in received:
        assert b'"tools":[' + contract.tools in each.body.encode()
        assert b'"system":[' + contract.system in each.body.encode()


def asked(pod: Pod) -> bool:
    """Whether a request was answered."""
    try:
        pod.ask()
    except anthropic.InternalServerError:
        return False
    return True
