"""A team with little traffic that sends the shared tools in another order: it is named, alone."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import anthropic
import pytest

from headwater.contract.content import content
from tests.cluster.waiting import scaled, wait_until
from tests.integration.controller.harness import Controller
from tests.integration.controller.team import MODEL, PATIENCE
from tests.integration.scenarios.provider import Received
from tests.integration.scenarios.world import Application, World

pytestmark = pytest.mark.xdist_group("scenarios")

TEAMS: Final = tuple(f"unit-{number}" for number in range(9))
ROUNDS: Final = 11
"""Requests of each of them: 99, to one of the tenth team's."""
TOOLS: Final = [
    {
        "name": name,
        "description": f"What {name} does, in so many words that it counts. " * 20,
        "input_schema": {"type": "object", "properties": {"query": {"type": "string"}}},
    }
    for name in ("find_article", "find_order", "open_ticket", "refund")
]
SHUFFLED: Final = [TOOLS[0], *(TOOLS[index] for index in (2, 1, 3))]
ALERT_SECONDS: Final = 300.0


@pytest.fixture
def tenth(world: World, controller: Controller) -> Application:
    """The pod of the tenth team, under Observe; nine others are in the world, too."""
    assert controller.running
    consumer = world.team.consumer("all")
    world.team.serve(source=declared(world), enforcement="Observe")
    for name in TEAMS:
        world.pod(consumer, name, key="sk-shared", surface="chat", deploy_revision="7c9d")
    found = world.pod(
        consumer,
        "search",
        key="sk-shared",
        surface="site-search",
        workload="indexer",
        deploy_revision="6d5f7",
    )
    world.applications.remove(found)
    world.await_sidecars()
    return found


@pytest.fixture
def raw(tenth: Application) -> Iterator[anthropic.Anthropic]:
    """The provider's own SDK, as the tenth team uses it: it keeps a copy of the contract."""
    with anthropic.Anthropic(api_key="sk-shared", base_url=tenth.url, max_retries=0) as client:
        yield client


def declared(world: World) -> dict[str, Any]:
    return {"tools": TOOLS, **world.source("v7")}


def copied(world: World, tools: list[dict[str, Any]]) -> dict[str, Any]:
    """A request that holds the contract itself, with these tools."""
    shared = content(tools=tools, system=declared(world)["system"], ttl="5m")
    return {
        "model": MODEL,
        "max_tokens": 5,
        "tools": shared.tools,
        "system": [*shared.system, {"type": "text", "text": "Search the site."}],
        "messages": [{"role": "user", "content": "Where is the printer?"}],
    }


def traffic(world: World) -> list[Received]:
    """The nine teams' requests, as the provider saw them."""
    before = world.provider.last
    world.talk(ROUNDS * len(TEAMS))
    return world.provider.received(before)


def violations(application: Application) -> list[dict[str, str]]:
    """The labels of all violations that a sidecar counted, with the count as `n`."""
    with urlopen(f"{application.metrics}/metrics", timeout=scaled(30)) as answer:
        text = answer.read().decode()
    return [
        dict(re.findall(r'(\w+)="([^"]*)"', labels)) | {"n": value}
        for labels, value in re.findall(
            r"^headwater_contract_violations_total\{(.*)\} (\S+)$", text, re.MULTILINE
        )
    ]


def headwater(world: World, *arguments: str) -> str:
    """What a person reads of it."""
    return subprocess.run(
        [Path(sys.executable).with_name("headwater"), *arguments, "-n", world.team.namespace],
        env={**os.environ, **world.site.plane.environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=scaled(60),
    ).stdout


@pytest.mark.slow
def test_it_alone_is_named_and_under_enforce_refused(
    world: World, tenth: Application, raw: anthropic.Anthropic
) -> None:
    """With surface, deploy revision, reason and place; the others read on as before."""
    traffic(world)  # each of their sidecars finds out that the lane is warm
    before = traffic(world)
    right = copied(world, TOOLS)
    raw.messages.create(**right)
    assert violations(tenth) == [], "a right copy is on the contract"

    sent = world.provider.last
    answer = raw.messages.with_raw_response.create(**copied(world, SHUFFLED))
    marks = {name: answer.headers.get(name) for name in ("x-headwater-reason", "x-headwater-at")}
    assert marks == {"x-headwater-reason": "tools_order", "x-headwater-at": "tools[1]"}
    assert "x-headwater-digest" not in answer.headers
    (passed,) = world.provider.received(sent)
    assert json.loads(passed.body) == json.loads(json.dumps(copied(world, SHUFFLED)))
    after = traffic(world)

    # Its own lane alone was written; nobody else reads less.
    assert passed.wrote > 0 == passed.read
    assert {(each.read, each.wrote) for each in after} == {
        (each.read, each.wrote) for each in before
    }
    assert all(each.read > 0 for each in after)

    # The Event names it and nobody else, and where.
    words = ("search", "site-search", "indexer", "6d5f7", "tools_order", "tools[1]")
    wait_until(lambda: world.team.events("OffContract"), ALERT_SECONDS, "it is told")
    (note,) = world.team.events("OffContract")
    assert all(word in note for word in words), note
    assert not any(name in note for name in TEAMS)
    (counted,) = violations(tenth)
    assert {
        "team": "search",
        "surface": "site-search",
        "workload": "indexer",
        "deploy_revision": "6d5f7",
        "reason": "tools_order",
        "n": "1.0",
    }.items() <= counted.items()
    assert [violations(each) for each in world.applications] == [[]] * len(TEAMS)

    # So do the status and the command line.
    consumers = world.team.status()["consumers"]
    assert (consumers["pods"], consumers["offContract"], consumers["oldBundle"]) == (10, 1, 0)
    rows = json.loads(headwater(world, "consumers", "house", "-o", "json"))
    assert len(rows) == len(TEAMS) + 1
    assert rows[0]["pod"] == "search"
    assert (rows[0]["reason"], rows[0]["at"], rows[0]["count"]) == ("tools_order", "tools[1]", 1)
    assert [row["pod"] for row in rows if "reason" in row] == ["search"]

    world.team.edit({"enforcement": "Enforce"})
    wait_until(lambda: is_refused(world, raw), PATIENCE, "the sidecar enforces it")
    sent = world.provider.last
    with pytest.raises(anthropic.BadRequestError) as refused:
        raw.messages.create(**copied(world, SHUFFLED))
    message = refused.value.body["error"]["message"]  # type: ignore[index]  # the SDK's object
    for word in ("tools_order", "tools[1]", "find_order", "ai-platform", "leave the contract out"):
        assert word in message, message
    assert world.provider.last == sent
    raw.messages.create(**right)
    assert tenth.ask("somebody").version == "v1"


def is_refused(world: World, raw: anthropic.Anthropic) -> bool:
    world.kubelet.sync()
    try:
        raw.messages.create(**copied(world, SHUFFLED))
    except anthropic.BadRequestError:
        return True
    return False
