"""How often the judge is wrong, how soon it is right, and what windowed rules do instead.

`python -m bench.judge FILE.svg` draws the comparison that docs/judge.md shows.
"""

import math
import statistics
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from itertools import accumulate, chain
from pathlib import Path
from random import Random
from typing import Final

from bench.rows import Row
from headwater.contract.digest import Digest
from headwater.contract.route import Revision, Weight
from headwater.rollout.judge import judge
from headwater.rollout.state import Analysis, Candidate, Counts, Evidence, Result

_ROLLOUTS: Final = 10_000
_FLOOR: Final = 0.85
_REQUESTS: Final = 2000
"""How long a rollout at the floor is watched."""
_MINUTES: Final = 30
"""How long the rules are compared."""
_ANALYSIS: Final = Analysis(
    min_hit_rate=_FLOOR,
    max_error_rate_increase=None,
    min_requests=1,
    confidence=0.95,
    rollback_confidence=0.99,
)

Minutes = Sequence[Sequence[bool]]
"""Requests by the minute: whether each of them hit."""
Rule = Callable[[Minutes], int | None]
"""After how many minutes a candidate goes back; None where it does not."""


def measure() -> list[Row]:
    """Shares of 10,000 seeded rollouts."""
    draw = Random(7)  # noqa: S311 - a simulation
    floor = [[draw.random() < _FLOOR for _ in range(_REQUESTS)] for _ in range(_ROLLOUTS)]
    rows = [
        _row("false_rollback_at_floor", _share(_goes_back(run) is not None for run in floor), 0.01),
        _row("false_promote_at_floor", _share(map(_is_promoted, floor)), 0.05),
    ]
    del floor
    for name, rate, most in (("050", 0.5, 20), ("000", 0.0, 5)):
        needed = statistics.median(
            _goes_back(_endless(draw, rate)) or math.inf for _ in range(_ROLLOUTS)
        )
        rows.append(Row(f"judge.median_requests_{name}", needed, "requests", f"<= {most}"))
    good = [_minutes(draw, 0.95) for _ in range(_ROLLOUTS)]
    long = [_minutes(draw, 0.95, minutes=240) for _ in range(_ROLLOUTS)]
    bad = [_minutes(draw, 0.5) for _ in range(_ROLLOUTS)]
    for name, rule in _RULES.items():
        ours = name == _OURS
        prefix = "" if ours else f"{name}_"
        wrong = _share(rule(run) is not None for run in good)
        rows.append(_row(f"{prefix}false_rollback_095", wrong, 0.01 if ours else None))
        wrong = _share(rule(run) is not None for run in long)
        rows.append(_row(f"{prefix}false_rollback_095_4h", wrong))
        took = [rule(run) for run in bad]
        rows.append(_row(f"{prefix}kept_050", _share(after is None for after in took)))
        minutes = statistics.median(after or _MINUTES for after in took)
        rows.append(Row(f"judge.{prefix}median_minutes_050", minutes, "min"))
    return [*rows, Row("judge.time", round(_micros(), 1), "µs", "<= 100")]


def _row(name: str, share: float, most: float | None = None) -> Row:
    return Row(f"judge.{name}", round(share, 4), "share", None if most is None else f"<= {most}")


def _share(found: Iterable[bool]) -> float:
    return statistics.fmean(found)


def _endless(draw: Random, rate: float) -> Iterator[bool]:
    while True:
        yield draw.random() < rate


def _candidate(evidence: Evidence) -> Candidate:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    revision = Revision("v2", Digest.of(b"v2"))
    return Candidate(revision, 0, Weight.percent(10), now, now, now, now, evidence=evidence)


def _verdict(hits: int, misses: int) -> Result:
    seen = _candidate({"a": Counts(hits, misses)})
    return judge(seen, _ANALYSIS, models=("a",), weights=1).result


# More hits never speak against a candidate, so one number for each number of misses says it all.
@cache
def _back_until(misses: int) -> int:
    """The most hits with which the judge takes a candidate back; -1 where it never does."""
    return bisect_left(range(_REQUESTS), 1, key=lambda h: _verdict(h, misses) != "RollBack") - 1


@cache
def _pass_from(misses: int) -> int:
    """The fewest hits with which the judge lets a candidate pass."""
    return bisect_left(range(_REQUESTS), 1, key=lambda h: _verdict(h, misses) == "Pass")


def _goes_back(requests: Iterable[bool]) -> int | None:
    """After how many requests the judge takes the candidate back, asked after each."""
    hits = misses = 0
    for hit in requests:
        if hit:
            hits += 1
            continue
        misses += 1
        if hits <= _back_until(misses):
            return hits + misses
    return None


def _is_promoted(requests: Iterable[bool]) -> bool:
    """Whether the judge ever lets it pass."""
    hits = misses = 0
    for hit in requests:
        misses += not hit
        hits += hit
        if hit and hits >= _pass_from(misses):
            return True
    return False


def _minutes(draw: Random, rate: float, minutes: int = _MINUTES) -> Minutes:
    """Two requests a minute on average, at random times: some minutes have none."""
    found: list[list[bool]] = [[] for _ in range(minutes)]
    now = draw.expovariate(2)
    while now < minutes:
        found[int(now)].append(draw.random() < rate)
        now += draw.expovariate(2)
    return found


def _ours(run: Minutes) -> int | None:
    """The judge, asked after every request."""
    needed = _goes_back(chain.from_iterable(run))
    ends = list(accumulate(map(len, run)))
    return None if needed is None else bisect_left(ends, needed) + 1


def _argo(window: int, failure_limit: int) -> Rule:
    """An AnalysisTemplate that asks Prometheus every `window` minutes about as many.

    `successCondition: result[0] >= 0.85`; more failures than `failureLimit` abort. A window
    without requests is no failure here: authors who know of NaN write their condition so.
    """

    def aborts(run: Minutes) -> int | None:
        return _after(failure_limit + 1, run, window, _fails)

    return aborts


def _flagger(window: int, threshold: int) -> Rule:
    """A Canary that checks every `window` minutes with `thresholdRange: {min: 85}`.

    As many failed checks as `threshold` roll back, and a check without values is a failed one.
    """

    def rolls_back(run: Minutes) -> int | None:
        return _after(threshold, run, window, lambda part: not any(part) or _fails(part))

    return rolls_back


def _after(many: int, run: Minutes, window: int, bad: Callable[[Minutes], bool]) -> int | None:
    """The end of the window that is the last of so many bad ones."""
    failed = 0
    for start in range(0, len(run), window):
        failed += bad(run[start : start + window])
        if failed == many:
            return start + window
    return None


def _fails(part: Minutes) -> bool:
    """Whether the ratio is below the floor; one of nothing is not."""
    return sum(map(sum, part)) < _FLOOR * sum(map(len, part))


_OURS: Final = "headwater"
_RULES: Final[dict[str, Rule]] = {
    _OURS: _ours,
    "argo_1m_limit0": _argo(1, 0),
    "argo_1m_limit3": _argo(1, 3),
    "argo_5m_limit0": _argo(5, 0),
    "argo_5m_limit3": _argo(5, 3),
    "flagger_1m_threshold5": _flagger(1, 5),
    "flagger_5m_threshold5": _flagger(5, 5),
}
"""Argo Rollouts' documents show windows of 5 minutes, Flagger's of 1; each is asked with both."""


def _micros() -> float:
    """One verdict on two models with new counts each time, all of the default limits on."""
    timed = []
    for number in range(2000):
        counts = Counts(9000 + number, 200, 3, 9200 + number)
        seen = _candidate({"a": counts, "b": counts})
        seen = replace(seen, baseline=seen.evidence)
        started = time.perf_counter()
        judge(seen, Analysis(), models=("a", "b"), weights=2)
        timed.append((time.perf_counter() - started) * 1e6)
    return statistics.median(timed)


_LINES: Final[tuple[tuple[str, str, str, Callable[[Minutes], bool]], ...]] = (
    ("Headwater takes back", "#0b6e4f", "", lambda run: _ours(run) is not None),
    (
        "Headwater promotes",
        "#0b6e4f",
        "7 4",
        lambda run: _ours(run) is None and _is_promoted(chain.from_iterable(run)),
    ),
    (
        "Argo Rollouts, windows of 1m, failureLimit 3, takes back",
        "#c2571a",
        "",
        lambda run: _argo(1, 3)(run) is not None,
    ),
    (
        "Argo Rollouts, windows of 5m, failureLimit 3, takes back",
        "#e3a857",
        "",
        lambda run: _argo(5, 3)(run) is not None,
    ),
    (
        "Flagger, windows of 1m, threshold 5, takes back",
        "#3f5fbf",
        "",
        lambda run: _flagger(1, 5)(run) is not None,
    ),
)
_RATES: Final = [percent / 100 for percent in range(50, 101, 2)]
_LEFT, _TOP, _WIDTH, _HEIGHT = 60, 32, 600, 300


def _plot() -> str:
    """What becomes of candidates within half an hour, by their true hit rate, as SVG."""
    draw = Random(7)  # noqa: S311 - a simulation
    runs = {rate: [_minutes(draw, rate) for _ in range(2000)] for rate in _RATES}
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH + 90} {_HEIGHT + 200}"'
            ' font-family="sans-serif" font-size="13">'
        ),
        '<rect width="100%" height="100%" fill="#fff"/>',
        *(_grid_line(share) for share in (0, 0.25, 0.5, 0.75, 1)),
        *(_text(_x(rate), _y(0) + 20, f"{rate:.0%}", "middle") for rate in _RATES[::5]),
        _text(_x(0.75), _y(0) + 42, "the candidate's true hit rate", "middle"),
        _text(_LEFT, _TOP - 14, "share of candidates within 30 minutes, at 2 requests a minute"),
        f'<path d="M{_x(_FLOOR)} {_y(0)}V{_y(1)}" stroke="#888" stroke-dasharray="4 4"/>',
        _text(_x(_FLOOR) + 6, _y(0.6), "the floor"),
    ]
    for number, (label, colour, dashes, happens) in enumerate(_LINES):
        points = " ".join(f"{_x(rate)},{_y(_share(map(happens, runs[rate])))}" for rate in _RATES)
        stroke = f'stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dashes}"'
        row = _y(0) + 70 + 20 * number
        parts += [
            f'<polyline points="{points}" fill="none" {stroke}/>',
            f'<path d="M{_LEFT} {row - 4}h28" {stroke}/>',
            _text(_LEFT + 36, row, label),
        ]
    return "\n".join([*parts, "</svg>", ""])


def _x(rate: float) -> float:
    return round(_LEFT + (rate - _RATES[0]) / (_RATES[-1] - _RATES[0]) * _WIDTH, 1)


def _y(share: float) -> float:
    return round(_TOP + (1 - share) * _HEIGHT, 1)


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="#222">{text}</text>'


def _grid_line(share: float) -> str:
    line = f'<path d="M{_LEFT} {_y(share)}h{_WIDTH}" stroke="#ddd"/>'
    return line + _text(_LEFT - 8, _y(share) + 4, f"{share:.0%}", "end")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(_plot(), "utf-8")
