"""`headwater why`: the last decisions, the numbers that they rested on, and what comes next."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

import click
from rich.console import Group
from rich.padding import Padding
from rich.text import Text

from headwater.cli._cluster import ask, cluster_options, find
from headwater.cli._output import number_of, show, show_data, span
from headwater.cli._standing import (
    Standing,
    counted,
    found_on,
    overdue_at,
    share,
    standing,
    step,
    strength,
)
from headwater.cluster import Object
from headwater.contract.route import Revision
from headwater.controller.authors import told
from headwater.rollout.state import Candidate, Pause, Phase, Plan, SetWeight

_DECISIONS: Final = 5
"""Entries of the history that are told."""
_GOOD: Final = {"Ready": "True", "Stalled": "False", "DigestVerified": "True", "Cacheable": "True"}
"""What these conditions should be. Reconciling is as good either way, and so is Approved."""


@click.command(name="why")
@click.argument("name")
@cluster_options
@click.option(
    "-o",
    "--output",
    type=click.Choice(["json", "yaml"]),
    help="The sentences by what they tell; their numbers are in `headwater get -o json`.",
)
def command(name: str, namespace: str | None, context: str | None, output: str | None) -> None:
    """Say why a prefix stands where it does, and what would move it."""
    body = ask(context, lambda cluster: find(cluster, namespace, name))
    found = reasons(body, datetime.now(UTC))
    if output is None:
        show(paragraphs(found))
    else:
        show_data(found, output)


_HEADINGS: Final = {
    "phase": "",
    "served": "",
    "evidence": "What the evidence says",
    "goesOnWhen": "It goes on when",
    "goesBackWhen": "It goes back when",
    "conditions": "Not as it should be",
    "decisions": "The last decisions",
}


def reasons(body: Object, now: datetime) -> dict[str, list[str]]:
    """All that there is to say: sentences, by what they tell; empty where there is nothing."""
    found = standing(body)
    return {
        "phase": [f"{found.prefix.metadata.name} is {found.state.phase.value}: {found.message}"],
        "served": list(_served(found, now)),
        "evidence": list(_evidence(found)),
        "goesOnWhen": list(_forward(found, now)),
        "goesBackWhen": list(_back(found, now)),
        "conditions": list(_conditions(found)),
        "decisions": list(_decisions(found, now)),
    }


def paragraphs(found: Mapping[str, list[str]]) -> Group:
    """The same for reading; what has no sentence is left out."""
    lines = [(_HEADINGS[about], lines) for about, lines in found.items() if lines]
    return Group(
        *(
            line
            for index, (heading, sentences) in enumerate(lines)
            for line in _paragraph(heading, sentences, first=index == 0)
        )
    )


def _paragraph(heading: str, lines: list[str], *, first: bool) -> Iterator[Text | Padding]:
    if not first:
        yield Text()
    if heading:
        yield Text(heading, style="bold")
    for line in lines:
        yield Padding(Text(line), (0, 0, 0, 2)) if heading else Text(line)


def _served(found: Standing, now: datetime) -> Iterator[str]:
    stable, candidate, gone = found.state.stable, found.state.candidate, found.state.rolled_back
    if candidate is not None:
        rest = f"everyone else has {stable.version}" if stable else "there is no stable version"
        since = span(candidate.started_at, now)
        yield (
            f"{candidate.revision.version} has {share(candidate)} ({step(found.plan, candidate)},"
            f" begun {since} ago); {rest}."
        )
    elif stable is not None:
        yield f"Everyone has {stable.version}."
    if gone is not None and gone.revision == found.plan.declared and candidate is None:
        yield (
            f"{gone.revision.version} went back {span(gone.at, now)} ago: {gone.message}. It is"
            f" not tried again until spec.retry is above {gone.retry}: `headwater retry"
            f" {found.prefix.metadata.name}`, or publish a better version."
        )


def _evidence(found: Standing) -> Iterator[str]:
    candidate = found.state.candidate
    if candidate is None:
        return
    for model in found.plan.models:
        counts = candidate.evidence.get(model)
        told = list(found_on(found, model))
        if not told:
            yield f"{model}: {counted(counts)}"
        for reading in told:
            yield f"{model}: {reading.seen}: {reading.words} ({strength(reading)})"


def _forward(found: Standing, now: datetime) -> Iterator[str]:
    """What is still asked for, whether it is there already or not."""
    name, candidate, plan = found.prefix.metadata.name, found.state.candidate, found.plan
    if plan.suspend:
        yield f"it is no longer suspended: `headwater resume {name}`"
    if candidate is None:
        if found.state.phase is Phase.AWAITING_APPROVAL and plan.declared is not None:
            yield _approval(found, plan.declared)
        return
    if found.state.phase is Phase.DEGRADED:
        yield f"somebody acts: a longer progressDeadline, or `headwater retry {name}`"
    pause = plan.steps[candidate.step] if candidate.step < len(plan.steps) else None
    if isinstance(pause, Pause) and pause.duration is not None:
        over = candidate.step_started_at + pause.duration
        yield (
            f"the pause is over, in {span(now, over)}"
            if over > now
            else "the pause was long enough"
        )
    yield from _asked_for(found)
    if _waits_for_approval(plan, candidate):
        yield _approval(found, candidate.revision)


def _approval(found: Standing, revision: Revision) -> str:
    name = found.prefix.metadata.name
    return f"spec.rollout.approvedDigest names {revision.digest}: `headwater approve {name}`"


def _asked_for(found: Standing) -> Iterator[str]:
    analysis = found.analysis
    models = "each model" if analysis.unused_models == "Wait" else "each model in use"
    if found.readings:
        yield f"{models} has at least {number_of(analysis.min_requests, 'eligible request')}"
    sure = _percent(analysis.confidence)
    for merit, needed in _distinct((r.merit, r.pass_at) for r in found.readings if r.merit):
        yield f"{models} is {merit}, with {sure} confidence (an e-value of {needed:,.0f})"
    for query in analysis.queries:
        limits = ((query.minimum, "at least"), (query.maximum, "at most"))
        wanted = " and ".join(f"{word} {limit:g}" for limit, word in limits if limit is not None)
        yield f"the query {query.name} answers {wanted}"


def _waits_for_approval(plan: Plan, candidate: Candidate) -> bool:
    """Whether the approval is asked for before the next weight."""
    if plan.approves(candidate.revision):
        return False
    at_weight = candidate.step < len(plan.steps) and isinstance(
        plan.steps[candidate.step], SetWeight
    )
    for item in plan.steps[candidate.step + at_weight :]:
        if isinstance(item, SetWeight):
            return False
        if item.duration is None:
            return True
    return plan.approval_required


def _back(found: Standing, now: datetime) -> Iterator[str]:
    candidate, plan, analysis = found.state.candidate, found.plan, found.analysis
    if candidate is None:
        return
    sure = _percent(analysis.rollback_confidence)
    for fault, needed in _distinct((r.fault, r.back_at) for r in found.readings):
        yield f"any model is {fault}, with {sure} confidence (an e-value of {needed:,.0f})"
    for query in analysis.queries:
        failures = number_of(query.failure_limit + 1, "answer")
        yield f"{failures} of the query {query.name} fail in one step"
    until = overdue_at(found)
    if until is not None and until > now and plan.on_deadline == "RollBack":
        yield f"there is no verdict for {span(now, until)} more"
    name = found.prefix.metadata.name
    yield f"it is declared no longer: `git revert`, or `headwater abort {name}`"


def _distinct(found: Iterable[tuple[str, float]]) -> Iterable[tuple[str, float]]:
    """Each question once: what stands behind a comma is one model's."""
    return dict.fromkeys((sentence.partition(",")[0], needed) for sentence, needed in found)


def _percent(share_of_one: float) -> str:
    return f"{share_of_one * 100:.4g}%"


def _conditions(found: Standing) -> Iterator[str]:
    for condition in found.prefix.status.conditions:
        expected = _GOOD.get(condition.type, condition.status)
        # Ready and Stalled mostly repeat what was said above.
        if condition.status != expected and condition.message != found.state.message:
            what = f"{condition.type} is {condition.status} ({condition.reason})"
            yield f"{what}: {condition.message}"


def _decisions(found: Standing, now: datetime) -> Iterator[str]:
    for entry in reversed(found.prefix.status.history[-_DECISIONS:]):
        why = told(entry.reason, entry.by)
        yield f"{span(entry.at, now)} ago, {entry.version}, {entry.event}: {why}"
