"""When a warmer's job has to run so that a lane never goes cold.

The provider counts a TTL from the start of the request that wrote or read the entry, and a job's
request starts some while after the schedule's minute. So what must stay within the TTL is the
longest gap of the schedule plus that while, and a margin. Pure: whoever asks says what time it is.

Source of the TTL rule: platform.claude.com/docs/en/build-with-claude/prompt-caching, as of
2026-08-22.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise, takewhile
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from headwater.contract.assembly import TTL_SECONDS
from headwater.contract.content import TTL
from headwater.contract.errors import HeadwaterError
from headwater.resources.warmer import ActiveHours

START_UP: Final = timedelta(seconds=30)
"""From the schedule's minute to the first request: the pod placed, its image there, Python up.
What is assumed before it was measured, and at least: clocks of nodes may be behind."""
MARGIN: Final = timedelta(seconds=10)
"""The provider counts by its own clock."""

_DAY: Final = timedelta(days=1)
_MINUTE: Final = timedelta(minutes=1)
_EVERY_DAY: Final = ["*", "*", "*"]
_DAYS_SEEN: Final = 400 * _DAY
"""Longer than a year: every pattern of days, weekdays and months has come round."""
_RECOVERY: Final = 10
"""A start-up that was slow once is half forgotten after seven quick ones."""


class ScheduleError(HeadwaterError):
    """Five cron fields that no clock can follow, or a time zone that does not exist."""


@dataclass(frozen=True, slots=True)
class Timetable:
    """Five cron fields, and whose clock they are about."""

    cron: str
    zone: str = "Etc/UTC"

    def __str__(self) -> str:
        return self.cron if self.zone == "Etc/UTC" else f"{self.cron} ({self.zone})"

    def after(self, moment: datetime) -> datetime:
        """The first run after a moment, in UTC.

        Raises:
            ScheduleError: the fields are no schedule.
        """
        try:
            following = next(CronSim(self.cron, moment.astimezone(zone_of(self.zone))))
        except (CronSimError, StopIteration) as error:
            raise _no_schedule(self.cron, error) from error
        return following.astimezone(UTC)


def timetable(
    schedule: str, ttl: TTL, hours: ActiveHours | None = None, start_up: timedelta = START_UP
) -> Timetable:
    """When a warmer with this schedule runs; `Auto` follows the TTL.

    Raises:
        ScheduleError: there is no such time zone.
    """
    cron = auto(ttl, start_up) if schedule == "Auto" else schedule
    if hours is None:
        return Timetable(cron)
    zone_of(hours.time_zone)
    minute, *_ = cron.split()
    return Timetable(f"{minute} {_hours(hours)} * * {_days(hours)}", hours.time_zone)


def auto(ttl: TTL, start_up: timedelta = START_UP) -> str:
    """The sparsest even schedule that keeps a lane with this TTL warm.

    Even means that the step divides the hour: `*/50` would run at :00, :50 and :00 again.
    """
    room = _room(ttl, start_up) // _MINUTE
    step = next(step for step in range(room, 0, -1) if 60 % step == 0)
    return f"*/{step} * * * *"


def slowest(before: timedelta | None, measured: timedelta) -> timedelta:
    """The start-up to reckon with: the slowest of late, in whole seconds."""
    slow = before or timedelta()
    kept = max(measured, slow - (slow - measured) / _RECOVERY)
    return timedelta(seconds=max(0, -(-kept // timedelta(seconds=1))))


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
        end = last if date == _EVERY_DAY else last + _DAYS_SEEN
        while last < end:
            following = next(dates)
            longest, last = max(longest, following - last), following
    except (CronSimError, ValueError, StopIteration) as error:
        raise _no_schedule(cron, error) from error
    overnight = times[0] + longest - times[-1]
    return max([overnight, *(later - earlier for earlier, later in pairwise(times))])


def problem(cron: str, ttl: TTL, now: datetime, start_up: timedelta = START_UP) -> str | None:
    """Why lanes with this TTL go cold under this schedule; None where they stay warm.

    Raises:
        ScheduleError: see `longest_gap`.
    """
    gap = longest_gap(cron, now)
    if gap <= _room(ttl, start_up):
        return None
    slow = _reckoned(ttl, start_up)
    return (
        f"the schedule {cron!r} leaves up to {_words(gap)} between two runs, and {_words(slow)}"
        f" more pass until the request: a cache of {ttl} is cold by then, and each such run pays"
        f" for writing it anew. Use Auto ({auto(ttl, start_up)!r}), and activeHours to leave out"
        " nights and weekends."
    )


def zone_of(name: str) -> tzinfo:
    """A time zone by its name.

    Raises:
        ScheduleError: there is none of this name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ScheduleError(
            f"there is no time zone {name!r}: write a name of the IANA database, like"
            " Europe/Berlin or Etc/UTC."
        ) from error


def _no_schedule(cron: str, error: Exception) -> ScheduleError:
    return ScheduleError(
        f"the schedule {cron!r} never comes or is no schedule ({error}): write five cron fields"
        " like '*/4 * * * *', or Auto."
    )


def _room(ttl: TTL, start_up: timedelta) -> timedelta:
    """What two runs may be apart at most."""
    return timedelta(seconds=TTL_SECONDS[ttl]) - _reckoned(ttl, start_up) - MARGIN


def _reckoned(ttl: TTL, start_up: timedelta) -> timedelta:
    # One run that waited for an hour must not make every later one useless.
    return max(START_UP, min(start_up, timedelta(seconds=TTL_SECONDS[ttl]) / 2))


def _hours(hours: ActiveHours) -> str:
    first, end = hours.first, hours.end
    if first < end:
        return f"{first}-{end - 1}"
    return ",".join(str(hour % 24) for hour in range(first, end + 24))


def _days(hours: ActiveHours) -> str:
    return ",".join(day.upper() for day in hours.days) or "*"


def _words(duration: timedelta) -> str:
    """Like `1d 3h`, `4m`, `30s`: people read this."""
    hours, rest = divmod(duration.seconds, 3600)
    amounts = {"d": duration.days, "h": hours, "m": rest // 60, "s": rest % 60}
    return " ".join(f"{amount}{unit}" for unit, amount in amounts.items() if amount) or "0s"
