"""docs/commands.md shows what is really printed."""

from pathlib import Path

import click
import pytest

from headwater.cli import main
from tests.unit.cli import test_consumers, test_diff, test_get, test_history, test_why

DOCUMENT = (Path(__file__).parents[3] / "docs" / "commands.md").read_text()


@pytest.mark.parametrize(
    "output",
    [
        test_get.PROGRESSING_AT_80,
        test_get.ROLLED_BACK_AT_80,
        test_why.A_CANARY,
        test_history.AT_80,
        test_diff.ONE_TEXT,
        test_consumers.AT_120,
    ],
    ids=["get", "get of what went back", "why", "history", "diff", "consumers"],
)
def test_the_output_is_real(output: str) -> None:
    """To the letter: the same texts that the commands' own tests compare with."""
    assert f"\n{output}```\n" in DOCUMENT


def test_every_command_is_mentioned() -> None:
    """What containers run, too, and where that is told."""
    for command in main.list_commands(click.Context(main)):
        assert f"`{command}`" in DOCUMENT or f"`headwater {command}`" in DOCUMENT
