"""docs/library.md shows the library as it is: every name, every error, and code that runs."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import anthropic
import pytest
from click.testing import CliRunner

import headwater
from headwater.cli.explain import command
from tests.unit.sidecar import bundles

DOCUMENT = (Path(__file__).parents[3] / "docs/library.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
ERRORS = DOCUMENT.partition("## Errors")[2]


def test_every_name_is_shown_and_none_that_is_not_there() -> None:
    """`__all__` is what the page names, as `headwater.name` or in the table of errors."""
    named = set(re.findall(r"headwater\.([A-Za-z_]+)(?=[(\"` ]|$)", DOCUMENT, re.MULTILINE))
    named |= set(re.findall(r"^\| `([A-Za-z]+Error)`", ERRORS, re.MULTILINE))
    assert named == set(headwater.__all__)


def test_every_error_has_one_base_and_its_row() -> None:
    errors = [
        name
        for name in headwater.__all__
        if inspect.isclass(found := getattr(headwater, name)) and issubclass(found, Exception)
    ]
    assert all(issubclass(getattr(headwater, name), headwater.HeadwaterError) for name in errors)
    rows = re.findall(r"^\| `([A-Za-z]+Error)`", ERRORS, re.MULTILINE)
    assert sorted([*rows, "HeadwaterError"]) == sorted(errors)


def test_names_are_loaded_when_they_are_asked_for() -> None:
    """And a name that is not there is an AttributeError, as with any module."""
    assert set(headwater.__all__) <= set(dir(headwater))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(headwater, "nothing")  # noqa: B009 - it must fail at run time


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From top to bottom, with answers instead of a provider."""
    bundles.write_plain(tmp_path / "bundle", bundles.make())
    monkeypatch.setenv("HEADWATER_BUNDLE", str(tmp_path / "bundle"))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-not-a-key")
    sent: list[dict[str, Any]] = []

    def create(self: object, **request: Any) -> dict[str, Any]:
        sent.append(request)
        return {"content": [{"type": "text", "text": "Here."}], "usage": {"input_tokens": 1}}

    monkeypatch.setattr(anthropic.resources.Messages, "create", create)
    monkeypatch.setattr(headwater, "assert_stable", lambda build: build())
    names: dict[str, Any] = {}
    for code in CODE:
        exec(code, names)
    names["test_every_process_builds_the_same_request"]()
    assert len(sent) == 2
    assert len(names["talk"].messages) == 2
    for client in (names["client"], *[each for each in names.values() if hasattr(each, "close")]):
        client.close()


def test_the_explanation_is_real() -> None:
    """What the page shows is what the command prints."""
    contract = headwater.declare(
        system="You are helpful. " * 900,
        tools=headwater.tools({"name": "a", "input_schema": {"type": "object"}}),
    )
    request = contract.request(
        model="claude-opus-4-8",
        system="Own text. " * 300,
        strategy="C",
        messages=[
            {"role": "user", "content": "x " * 100},
            {"role": "assistant", "content": "y"},
            {"role": "user", "content": "z"},
        ],
    )
    printed = CliRunner(env={"COLUMNS": None}).invoke(command, [], input=json.dumps(request)).stdout
    assert f"```\n{printed}```\n" in DOCUMENT
