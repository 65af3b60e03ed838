"""When a warmer's job has to run so that a lane never goes cold.

The provider counts a TTL from the start of the request that wrote or read the entry, and a job's
request starts some while after the schedule's minute. So what must stay within the TTL is the
longest gap of the schedule plus that while. Pure: whoever asks says what time it is.

Source of the TTL rule: platform.claude.com/docs/en/build-with-claude/prompt-caching, as of
2026-08-22.
"""

from datetime import datetime, timedelta
from itertools import pairwise, takewhile
from typing import Final

from cronsim import CronSim, CronSimError

from headwater.contract.assembly import TTL_SECONDS
from headwater.contract.content import TTL
from headwater.contract.errors import HeadwaterError

START_UP: Final = timedelta(seconds=30)
"""From the schedule's minute to the first request: the pod placed, its image there, Python up."""

_DAY: Final = timedelta(days=1)
_DAYS_SEEN: Final = 400 * _DAY
"""Longer than a year: every pattern of days, weekdays and months has come round."""


class ScheduleError(HeadwaterError):
    """Five cron fields that no clock can follow."""


def auto(ttl: TTL, start_up: timedelta = START_UP) -> str:
    """The sparsest even schedule that keeps a lane with this TTL warm.

    Even means that the step divides the hour: `*/50` would run at :00, :50 and :00 again.
    """
    fitting = [
        step
        for step in range(1, 60)
        if 60 % step == 0 and _fits(timedelta(minutes=step), ttl, start_up)
    ]
    return f"*/{fitting[-1]} * * * *"


def longest_gap(cron: str, now: datetime) -> timedelta:
    """The longest time between two runs of five cron fields in UTC, from the day of `now` on.

    Raises:
        ScheduleError: not five fields, a value out of range, or a date that never comes.
    """
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    before = today - timedelta(seconds=1)  # CronSim begins after the moment that it is given
    try:
        minute, hour, *date = cron.split()
        # Times of day and dates are independent, so one day and one year tell everything: a
        # walk along each minute of a year would keep a controller busy for seconds.
        times = list(
            takewhile(lambda at: at < today + _DAY, CronSim(f"{minute} {hour} * * *", before))
        )
        dates = CronSim(f"0 0 {' '.join(date)}", before)
        longest, last = _DAY, next(dates)
        end = last + _DAYS_SEEN
        while last < end:
            following = next(dates)
            longest, last = max(longest, following - last), following
    except (CronSimError, ValueError, StopIteration) as error:
        raise ScheduleError(
            f"the schedule {cron!r} never comes or is no schedule ({error}): write five cron"
            " fields like '*/4 * * * *', or Auto."
        ) from error
    overnight = times[0] + longest - times[-1]
    return max([overnight, *(later - earlier for earlier, later in pairwise(times))])


def problem(cron: str, ttl: TTL, now: datetime, start_up: timedelta = START_UP) -> str | None:
    """Why lanes with this TTL go cold under this schedule; None where they stay warm.

    Raises:
        ScheduleError: see `longest_gap`.
    """
    gap = longest_gap(cron, now)
    if _fits(gap, ttl, start_up):
        return None
    return (
        f"the schedule {cron!r} leaves up to {_words(gap)} between two runs, and {_words(start_up)}"
        f" more pass until the request: a cache of {ttl} is cold by then, so each such run writes"
        f" it anew; use Auto ({auto(ttl)!r})."
    )


def _fits(gap: timedelta, ttl: TTL, start_up: timedelta) -> bool:
    return (gap + start_up).total_seconds() <= TTL_SECONDS[ttl]


def _words(duration: timedelta) -> str:
    """Like `1d 3h`, `4m`, `30s`: people read this."""
    hours, rest = divmod(duration.seconds, 3600)
    amounts = {"d": duration.days, "h": hours, "m": rest // 60, "s": rest % 60}
    return " ".join(f"{amount}{unit}" for unit, amount in amounts.items() if amount) or "0s"
