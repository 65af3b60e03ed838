"""docs/sidecar.md says what the code does."""

import re
from pathlib import Path

import click

from headwater.cli.sidecar import command
from headwater.contract.reasons import Reason
from headwater.providers.cost import Unpriced
from headwater.providers.gateways import Layer
from headwater.sidecar.continuity import Break
from headwater.sidecar.metrics import Identity, Outcome
from headwater.sidecar.misses import MissReason

DOCS = (Path(__file__).parents[3] / "docs" / "sidecar.md").read_text()


def test_every_reason_has_a_row_and_no_other_does() -> None:
    """With what it means and what to do."""
    _, rest = DOCS.split("## What it refuses")
    table = rest.partition("Other answers")[0]
    assert re.findall(r"^\| `([a-z_]+)` \|.+\|.+\|$", table, re.MULTILINE) == list(Reason)


def test_every_outcome_is_named() -> None:
    """As the metric has them."""
    assert all(f"`{outcome}`" in DOCS for outcome in Outcome)


def test_whatever_has_no_price_and_every_layer_is_named() -> None:
    """As the metrics have them."""
    _, rest = DOCS.split("### What an answer costs")
    prices, gateways = rest.split("### Answers of a gateway's own")
    assert all(f"`{reason}`" in prices for reason in Unpriced)
    rows = re.findall(r"^\| `([a-z]+)` \|.+\|$", gateways, re.MULTILINE)
    assert rows[: 1 + len(Layer)] == ["layer", *Layer]


def test_every_flag_and_label_is_named() -> None:
    """As `headwater sidecar --help` and the metrics have them."""
    for option in command.params:
        assert f"`{option.opts[0]}`" in DOCS
        assert isinstance(option, click.Option)
        assert option.envvar is None or f"`{option.envvar}`" in DOCS
    assert all(f"`{label}`" in DOCS for label in Identity.__dataclass_fields__)


def test_every_reason_of_a_miss_is_named() -> None:
    """As the metric has them."""
    _, table = DOCS.split("### Misses")
    assert all(f"`{reason}`" in table for reason in MissReason)


def test_every_break_of_a_conversation_is_named() -> None:
    """As the metric and the header have them."""
    assert all(f"`{reason}`" in DOCS for reason in Break)
