"""docs/injection.md says what the code does."""

import re
from pathlib import Path

import click

from headwater.cli.webhook import command
from headwater.controller import objects
from headwater.webhook import pods, sidecar
from headwater.webhook.injection import Outcome, Reason

DOCS = (Path(__file__).parents[3] / "docs" / "injection.md").read_text()


def rows() -> set[str]:
    """The first words of all rows of tables that are a name in code."""
    return set(re.findall(r"^\| `([a-z_]+)` \|", DOCS, re.MULTILINE))


def test_every_reason_has_a_row() -> None:
    """And no other row claims to be one; conflicts come with a remedy."""
    assert {name for name in rows() if not name.startswith("headwater_")} == set(Reason)
    skipped, conflicts = DOCS.split("These wanted to take part")
    for reason in Reason:
        assert f"| `{reason}` |" in (conflicts if reason.is_conflict else skipped)


def test_every_outcome_is_named() -> None:
    """As the metric has them."""
    assert all(f"`{outcome}`" in DOCS for outcome in Outcome)


def test_every_flag_and_its_default_is_named() -> None:
    """As `headwater webhook --help` has them."""
    for option in command.params:
        assert isinstance(option, click.Option)
        (row,) = [
            line for line in DOCS.splitlines() if f"`{option.opts[0]}`" in line and "|" in line
        ]
        if isinstance(option.default, str):
            assert f"`{option.default}`" in row


def test_every_name_that_people_write_is_named() -> None:
    """Labels, annotations, ports, limits."""
    for name in (
        pods.INJECT_LABEL,
        pods.PREFIXES_ANNOTATION,
        pods.INJECTED_ANNOTATION,
        pods.SKIPPED_ANNOTATION,
        pods.LEFT_ALONE_ANNOTATION,
        objects.METRICS_PORT_ANNOTATION,
        sidecar.TEAM_LABEL,
        sidecar.SURFACE_LABEL,
        sidecar.CONTAINER,
        sidecar.BASE_URL,
        str(objects.METRICS_PORT),
        f"At most {pods.PREFIXES_LIMIT}",
    ):
        assert name in DOCS
