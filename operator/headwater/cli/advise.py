"""`headwater advise`: how to cache, and the inequality behind each part of the answer."""

from typing import Any, Final

import click
from rich.table import Table

from headwater.cli._output import show, show_data
from headwater.cli._workload import (
    Asked,
    exact,
    sources,
    traffic_words,
    workload_options,
)
from headwater.economics.advice import Advice, Choice, advise, dollars
from headwater.economics.plans import Workload
from headwater.providers.models import ModelFacts

_QUESTIONS: Final = {
    "tenancy": "Who shares?",
    "cache": "Cache?",
    "ttl": "5m or 1h?",
    "warm": "Warm?",
    "pad": "Pad?",
}
_COMPARES_DAYS: Final = ("tenancy", "ttl")


@click.command(name="advise")
@workload_options
@click.option("--isolated", is_flag=True, help="Tenants may share no cache: HIPAA, PCI and such.")
def command(asked: Asked, output: str, *, isolated: bool) -> None:
    """Say how to cache a prefix at some traffic, and why.

    Every way to serve the workload is priced, and the cheapest is told, with the inequality and
    the numbers that decided each part of it. docs/economics.md has the formulas.
    """
    found = {
        facts: advise(workload, facts, asked.schedules, isolated=isolated)
        for facts, workload in asked.workloads.items()
    }
    if output != "table":
        show_data([_data(facts, advice) for facts, advice in found.items()], output)
        return
    for facts, advice in found.items():
        show(_headline(facts, asked.workloads[facts], advice), "", _table(advice), "")
    show(sources(asked))


def _headline(facts: ModelFacts, workload: Workload, advice: Advice) -> str:
    own = f" and {workload.tenant:,} of each of {workload.tenants:,} tenants"
    best, uncached = advice.best.usd, advice.uncached.usd
    saved = f" ({1 - best / uncached:.1%} less)" if uncached and best < uncached else ""
    return (
        f"{facts.id}, {workload.shared:,} tokens{own if workload.tenants > 1 else ''},"
        f" {traffic_words(workload.traffic)}:"
        f" {dollars(best)} a day instead of {dollars(uncached)}{saved}"
    )


def _table(advice: Advice) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for choice in advice.choices:
        table.add_row(_QUESTIONS[choice.question], choice.answer, _because(choice))
    return table


def _because(choice: Choice) -> str:
    """Where the inequality is not about the other answer's day, that is told, too."""
    if choice.otherwise is None or choice.question in _COMPARES_DAYS:
        return choice.inequality
    return f"{choice.inequality}; otherwise {dollars(choice.otherwise)} a day"


def _data(facts: ModelFacts, advice: Advice) -> dict[str, Any]:
    """For programs: dollars as text, everything else as numbers."""
    return {
        "model": facts.id,
        "perDayUsd": {"advised": exact(advice.best.usd), "uncached": exact(advice.uncached.usd)},
        "choices": [
            {
                "question": choice.question,
                "answer": choice.answer,
                "inequality": choice.inequality,
                "numbers": {
                    name: exact(number) if "usd" in name.lower() else float(number)
                    for name, number in choice.numbers.items()
                },
                "otherwisePerDayUsd": None if choice.otherwise is None else exact(choice.otherwise),
            }
            for choice in advice.choices
        ],
    }
