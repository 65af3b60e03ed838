"""docs/simulator.md says what is there."""

import re
from pathlib import Path

from headwater.cli.simulator import command
from headwater.simulator import faults, tokens
from headwater.simulator.prompt import read_prompt
from headwater.simulator.server import Settings, Simulator
from tests.unit.simulator.prompts import MODEL, body, text, tool, user

TEXT = (Path(__file__).parents[3] / "docs/simulator.md").read_text("utf-8")


def test_flags() -> None:
    """Each with its default, and no other."""
    shown: dict[str, str] = {}
    for names, values in re.findall(r"^\| (`--[^|]+) \| (`[^|]+`) \|", TEXT, re.MULTILINE):
        pairs = zip(re.findall("`(.+?)`", names), re.findall("`(.+?)`", values), strict=True)
        shown |= dict(pairs)
    assert shown == {
        option.opts[0]: f"{option.default:g}"
        if isinstance(option.default, int | float)
        else option.default
        for option in command.params
    }


def test_endpoints() -> None:
    """Every route of the server is named."""
    routes = {
        f"{route.method} {re.sub(r'{.+?}', '{id}', route.resource.canonical)}"
        for route in Simulator(Settings(), clock=lambda: 0.0).app().router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    named = set(re.findall(r"`((?:GET|POST|DELETE) [^`?]+)`", TEXT))
    assert named == routes


def test_faults() -> None:
    """Every one of them, by its name."""
    sentence = TEXT[TEXT.index("Faults are ") : TEXT.index("Any key is taken.")]
    listed = list(re.findall(r"`([0-9a-z-]+)`", sentence))
    assert listed == [*faults.REFUSALS, *faults.BROKEN_ANSWERS]


def test_a_test_can_compute_the_tokens() -> None:
    """As the page says, with `count`."""
    blocks = [tool("t"), text(30, "s")]
    request = body(user(text(20)), tools=blocks[:1], system=blocks[1:])
    prompt = read_prompt(request, workspace="w", version="2023-06-01")
    assert prompt.tokens == tokens.count(blocks, MODEL) + 20
