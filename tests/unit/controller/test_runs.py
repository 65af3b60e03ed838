"""What warming pods tell of their runs, and of why there is none."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from headwater.contract.digest import Digest
from headwater.controller.runs import merged, run_of, skew, start_up, trouble_of
from headwater.controller.warming import LaneKey
from headwater.providers.usage import Usage
from headwater.resources.warmer import Lane
from headwater.warmer.report import Finished, Report, State, WarmedLane, encode

DIGEST = Digest.of(b"v1")
KEY = LaneKey("prod", "claude-opus-4-8", str(DIGEST))
MINUTE = datetime(2026, 11, 21, 9, 4, tzinfo=UTC)
JOB = f"headwater-warm-{int(MINUTE.timestamp()) // 60}"


def at(seconds: float) -> datetime:
    return MINUTE + timedelta(seconds=seconds)


def warmed(
    seconds: float = 12, state: State = "Warm", usage: Usage | None = None, **given: Any
) -> WarmedLane:
    used = Usage(cache_read=5000) if usage is None and state == "Warm" else usage
    return WarmedLane(
        KEY.credential, "0123456789ab", KEY.model, DIGEST, at(seconds), state, used, **given
    )


def finished(*lanes: WarmedLane, scheduled: datetime | None = MINUTE) -> Finished:
    return Finished(Report(lanes), scheduled)


def pod(owner: str = JOB, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"ownerReferences": [{"kind": "Job", "name": owner}]},
        "status": {"phase": "Running", **status},
    }


def ended(message: str, **terminated: Any) -> dict[str, Any]:
    state = {"terminated": {"exitCode": 1, "message": message, **terminated}}
    return {"containerStatuses": [{"state": state}]}


@pytest.mark.parametrize(
    ("owner", "scheduled"),
    [
        pytest.param(JOB, MINUTE, id="by the schedule"),
        pytest.param("headwater-warm-now-0f3a", None, id="by hand"),
    ],
)
def test_a_report_and_the_minute_it_was_for(owner: str, scheduled: datetime | None) -> None:
    """A CronJob's Jobs are named after the minute; what else there is has none."""
    report = Report((warmed(),))
    found = run_of(pod(owner, **ended(encode(report).decode())))
    assert found is not None
    assert (found.report, found.scheduled_at) == (report, scheduled)
    assert run_of(pod(**ended("Traceback"))) is None
    assert run_of(pod()) is None


@pytest.mark.parametrize(
    ("status", "said"),
    [
        pytest.param({}, "", id="it runs"),
        pytest.param(
            {
                "phase": "Pending",
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/3 nodes are available: 3 Insufficient memory.",
                    }
                ],
            },
            "its pod finds no place: 0/3 nodes are available: 3 Insufficient memory.",
            id="no node has room",
        ),
        pytest.param(
            {"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]},
            "",
            id="it starts",
        ),
        pytest.param(
            {
                "containerStatuses": [
                    {"state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}
                ]
            },
            "its pod does not start: ErrImagePull not found",
            id="no image",
        ),
        pytest.param(
            ended("Traceback\nMemoryError", reason="Error"),
            "its pod ended without a report: Error MemoryError",
            id="a crash",
        ),
        pytest.param(
            {"phase": "Failed", "reason": "DeadlineExceeded"},
            "its pod ended without a report: DeadlineExceeded",
            id="too slow",
        ),
    ],
)
def test_why_there_is_no_report(status: dict[str, Any], said: str) -> None:
    """In the words of whoever knows."""
    assert trouble_of(pod(**status)) == said


def test_the_start_up_is_measured() -> None:
    """From the schedule's minute to the first request; what began by hand measures nothing."""
    assert start_up(None, [finished(warmed(12.2), warmed(14))]) == timedelta(seconds=13)
    assert start_up(None, [finished(warmed(), scheduled=None)]) is None
    # A node whose clock is behind must not make it negative.
    assert start_up(None, [finished(warmed(-25))]) == timedelta()
    assert start_up(None, [finished(warmed(), scheduled=at(-9_000))]) is None


@pytest.mark.parametrize(
    ("began", "now", "said"),
    [
        (12, 15, ""),
        (12, 8, ""),
        (42, 12, "the clock of the node is 30 s ahead of ours"),
        (-28, 15, "the clock of the node is 28 s or more behind the control plane's"),
    ],
)
def test_a_clock_that_differs_is_told(began: float, now: float, said: str) -> None:
    """As far as it shows."""
    assert skew(finished(warmed(began)), at(now)) == said


class TestMerged:
    """The wanted lanes, as they were reported last."""

    COLD = Lane(credential=KEY.credential, model=KEY.model, digest=DIGEST, state="Cold")

    def merge(self, *runs: Finished, known: Lane | None = None, now: float = 60) -> Lane:
        recorded = [known] if known is not None else []
        found = merged(recorded, runs, [KEY], at(now), named=True)
        assert list(found) == [KEY]
        return found[KEY]

    def test_what_nobody_warmed_is_cold(self) -> None:
        """And what is wanted no longer is not there."""
        assert self.merge() == self.COLD
        assert merged([self.COLD], [finished(warmed())], [], at(60), named=True) == {}

    def test_the_latest_counts(self) -> None:
        """Whatever the order in which pods are seen."""
        lane = self.merge(finished(warmed(240)), finished(warmed(0)), now=300)
        assert (lane.state, lane.last_warm_at) == ("Warm", at(240))
        assert lane.fingerprint == "0123456789ab"

    def test_a_failure_leaves_what_was_known(self) -> None:
        """When it was warm last, and for how much; and says when it may be tried again."""
        before = self.merge(finished(warmed(0)))
        failed = finished(warmed(240, "Failed", message="no", retry_after=300))
        lane = self.merge(failed, known=before, now=241)
        assert (lane.state, lane.message, lane.last_warm_at) == ("Failed", "no", at(0))
        assert lane.retry_at == at(540)
        again = self.merge(finished(warmed(480)), known=lane, now=481)
        assert (again.state, again.message, again.retry_at) == ("Warm", None, None)

    def test_a_clock_that_is_ahead_makes_nothing_warmer(self) -> None:
        """What cannot have been yet was now."""
        assert self.merge(finished(warmed(42)), now=12).last_warm_at == at(12)

    def test_a_lane_that_sidecars_cannot_know(self) -> None:
        """With settings of its own it has no name that they would take for another lane."""
        found = merged([], [finished(warmed())], [KEY], at(60), named=False)
        assert found[KEY].fingerprint is None


def test_a_reports_cost_is_that_of_all_its_lanes() -> None:
    """Those that did not fit included."""
    report = Report((warmed(usd=Decimal("0.01")), warmed(usd=None)), cut_usd=Decimal("0.5"))
    assert report.usd == Decimal("0.51")
