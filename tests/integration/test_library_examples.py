"""Every program of examples/library does what it says, against the simulator."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import anthropic
import pytest

import headwater
from tests.cluster.waiting import scaled
from tests.integration.test_simulator_sdk import ROOT, simulator
from tests.unit.sidecar import bundles

EXAMPLES = ROOT / "examples/library"
LONG = headwater.declare(system="You help. " * 1500)

pytestmark = pytest.mark.xdist_group("simulator-sdk")


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with simulator() as (_, address):
        yield address


@pytest.fixture
def client(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key="sk-not-a-key", base_url=url) as found:
        yield found


def test_three_lines_for_a_newcomer(
    client: anthropic.Anthropic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles.write_plain(tmp_path / "bundle", bundles.make(size=3000))
    monkeypatch.setenv("HEADWATER_BUNDLE", str(tmp_path / "bundle"))
    assert example("newcomer").ask(client, "Why?")


class Asking:
    """The client of an agent whose model first asks for a tool, as the simulator's never does."""

    def __init__(self, client: anthropic.Anthropic) -> None:
        self._client = client
        self.messages = self
        self.requests: list[dict[str, Any]] = []

    def create(self, **request: Any) -> Any:
        self.requests.append(request)
        answer = self._client.messages.create(**request)
        if len(self.requests) > 1:
            return answer
        call = {"type": "tool_use", "id": "t1", "name": "find_order", "input": {"order": "17"}}
        return type(answer).model_validate({**answer.model_dump(), "content": [call]})


def test_an_agent_with_tools_and_a_helper(client: anthropic.Anthropic) -> None:
    """Its second request reads what its first one wrote, and the helper disturbs neither."""
    agent = example("agent")
    asking = Asking(client)
    talk = agent.answer(asking, "Where is order 17?")
    assert [message["role"] for message in talk.messages] == [
        *("user", "user", "assistant", "user", "assistant")
    ]
    assert "left the warehouse" in json.dumps(talk.messages)
    assert talk.usage.cache_read > 1000
    helper = agent.summary(client, talk)
    assert helper.usage.output > 0
    assert talk.subagents == [helper]


def test_tenants_share_what_is_everybodys(client: anthropic.Anthropic) -> None:
    """The second tenant reads contract and catalogue, and nothing of the first one's."""
    ask = example("tenants").ask
    catalogue = "A lamp. " * 1000
    for tenant, expected in (("tenant-1", set()), ("tenant-2", {"contract", "catalogue"})):
        shares = ask(
            client, LONG, "Which?", catalogue=catalogue, tenant=f"{tenant} sells. " * 500, cart="x"
        )
        assert {share.name for share in shares if share.read > 0.8 * share.tokens} == expected
    with pytest.raises(headwater.RequestError, match="private to someone"):
        ask(client, LONG, "?", catalogue="tenant-1", tenant="t", cart="x")


def test_a_batch_says_its_price_and_keeps_to_its_budget(
    client: anthropic.Anthropic, capsys: pytest.CaptureFixture[str]
) -> None:
    classify = example("batch").classify
    tickets = {str(number): f"Ticket {number}" for number in range(3)}
    assert list(classify(client, LONG, tickets, budget=1)) == list(tickets)
    assert "3 records on " in capsys.readouterr().out
    assert classify(client, LONG, tickets, budget=0) == {}


def test_a_ci_check() -> None:
    """Run as a user's CI runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_prompts.py"],
        capture_output=True,
        text=True,
        timeout=scaled(100),
        cwd=EXAMPLES,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout
