"""Where a prefix stands, in the words that `get` and `why` share. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from headwater.cli._cluster import typed
from headwater.cli._output import number_of
from headwater.cluster import Object
from headwater.controller.status import plan_from, state_from
from headwater.resources import PromptPrefix
from headwater.rollout.judge import Reading, readings
from headwater.rollout.observe import analysis_of
from headwater.rollout.state import Analysis, Candidate, Counts, Pause, Plan, SetWeight, State


@dataclass(frozen=True, slots=True)
class Standing:
    """A prefix as it was read, and what the rollout decides on. `analysis` is the candidate's."""

    prefix: PromptPrefix
    plan: Plan
    state: State
    analysis: Analysis
    readings: tuple[Reading, ...]

    @property
    def message(self) -> str:
        """What the controller says; what it cannot say, because it has not looked, is said here."""
        status, metadata = self.prefix.status, self.prefix.metadata
        if status.phase is None:
            return "the controller has not looked at it yet: does it run?"
        if status.observed_generation < metadata.generation:
            return f"{self.state.message} (the newest change is not seen by the controller yet)"
        return self.state.message


def standing(body: Object) -> Standing:
    """Read a PromptPrefix of the cluster."""
    prefix = typed(body)
    plan, state = plan_from(prefix, prefix.spec.digest), state_from(prefix.status)
    if state.candidate is None:
        return Standing(prefix, plan, state, plan.analysis, ())
    analysis = analysis_of(plan, state.candidate)
    weights = sum(isinstance(step, SetWeight) for step in plan.steps)
    found = readings(state.candidate, analysis, models=plan.models, weights=max(1, weights))
    return Standing(prefix, plan, state, analysis, found)


def share(candidate: Candidate) -> str:
    """`10% of new conversations`."""
    return f"{candidate.weight / 100:g}% of new conversations"


def step(plan: Plan, candidate: Candidate) -> str:
    """`step 2 of 4: wait 10m`."""
    if candidate.step >= len(plan.steps):
        return "behind the last step"
    match plan.steps[candidate.step]:
        case SetWeight(weight):
            what = f"{weight / 100:g}%"
        case Pause(None):
            what = "wait for the approval"
        case Pause(duration):
            what = f"wait {duration_of(duration)}"
    return f"step {candidate.step + 1} of {len(plan.steps)}: {what}"


def counted(counts: Counts | None) -> str:
    """`48 hits, 2 misses`, and errors where there are any."""
    if counts is None or not (counts.eligible or counts.errors):
        return "no eligible request yet"
    errors = [number_of(counts.errors, "error")] if counts.errors else []
    return ", ".join((number_of(counts.hits, "hit"), number_of(counts.misses, "miss"), *errors))


def found_on(standing: Standing, model: str) -> Iterator[Reading]:
    """What the judge reads out of a model's evidence, where there is any."""
    for reading in standing.readings:
        if reading.model == model and (reading.against != 1 or reading.favour not in (None, 1)):
            yield reading


def strength(reading: Reading) -> str:
    """The e-values behind the words, and those that are asked for."""
    against = f"e-value against it {_number(reading.against)} of {_number(reading.back_at)}"
    if reading.favour is None:
        return against
    return f"{against}, for it {_number(reading.favour)} of {_number(reading.pass_at)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"  # noqa: PLR2004 - two digits


def duration_of(duration: timedelta | None) -> str:
    """`90s`, `10m`, `1h30m`: as it is written in a manifest."""
    seconds = int(duration.total_seconds()) if duration is not None else 0
    hours, rest = divmod(seconds, 3600)
    parts = ((hours, "h"), (rest // 60, "m"), (rest % 60, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def overdue_at(standing: Standing) -> datetime | None:
    """When the deadline of the running weight is over; None where its clock stands."""
    candidate, deadline = standing.state.candidate, standing.plan.progress_deadline
    if candidate is None or deadline is None or candidate.clock_stopped_at is not None:
        return None
    return candidate.clock_from + deadline
