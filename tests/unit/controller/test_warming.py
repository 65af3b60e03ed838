"""What a warmer may warm, what its next run leaves out, and what a candidate waits for."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headwater.cluster import Object
from headwater.controller.warming import (
    LaneKey,
    Lanes,
    awaited_lanes,
    holds,
    leaves_to,
    overlaps,
    shared_credential,
    shown,
    skips,
)
from headwater.resources import CacheWarmer
from headwater.resources.warmer import Lane
from headwater.rollout.state import State
from headwater.warmer.schedule import Timetable, auto
from tests.unit.rollout.stories import HAIKU, OPUS, V1, V2, serving


def lane(digest: str, state: str, model: str = OPUS, credential: str = "prod") -> Object:
    return {"credential": credential, "model": model, "digest": digest, "state": state}


def warmer(*lanes: Object, **spec: Any) -> Object:
    credentials = [{"name": "prod", "secretRef": {"name": "s", "key": "k"}}]
    return {
        "metadata": {"name": "hot", "namespace": "ai-platform"},
        "spec": {"prefixRef": {"name": "help-desk"}, "credentials": credentials, **spec},
        "status": {"lanes": list(lanes)},
    }


KEPT = lane(V1.digest, "Warm")


@pytest.mark.parametrize(
    ("warmers", "awaited"),
    [
        pytest.param([], (), id="no warmer"),
        pytest.param([warmer(KEPT)], (f"prod on {OPUS}",), id="its stable sister is warm"),
        pytest.param(
            [warmer(KEPT, lane(V2.digest, "Cold"))], (f"prod on {OPUS}",), id="it is cold yet"
        ),
        pytest.param([warmer(KEPT, lane(V2.digest, "Warm"))], (), id="it is warm"),
        pytest.param([warmer(KEPT, lane(V2.digest, "Failed"))], (), id="it cannot be warmed"),
        pytest.param([warmer(lane(V1.digest, "Cold"))], (), id="the warmer sleeps"),
        pytest.param(
            [warmer(lane(V1.digest, "Skipped"))],
            (f"prod on {OPUS}",),
            id="its stable sister is left to its traffic",
        ),
        pytest.param([warmer(KEPT, suspend=True)], (), id="the warmer is suspended"),
        pytest.param([warmer(KEPT, warm="Stable")], (), id="the warmer leaves candidates alone"),
        pytest.param(
            [warmer(KEPT, lane(V1.digest, "Warm", HAIKU), lane(V2.digest, "Warm"))],
            (f"prod on {HAIKU}",),
            id="each model is a lane",
        ),
        pytest.param(
            [warmer(KEPT), warmer(lane(V1.digest, "Warm", credential="batch"))],
            (f"batch on {OPUS}", f"prod on {OPUS}"),
            id="two warmers",
        ),
    ],
)
def test_what_is_waited_for(warmers: list[Object], awaited: tuple[str, ...]) -> None:
    """Lanes that a working warmer will come to, and has not."""
    assert awaited_lanes(warmers, serving(V1), V2.digest) == awaited


def test_a_first_version_waits_for_nobody() -> None:
    """There is no lane whose warmth would tell that a warmer works."""
    assert awaited_lanes([warmer(KEPT)], State(), V2.digest) == ()


def using(name: str, prefix: str, *secrets: str) -> CacheWarmer:
    """A warmer of a prefix with these keys, as `secret/key`."""
    refs = [secret.partition("/")[::2] for secret in secrets]
    credentials = [
        {"name": f"c{number}", "secretRef": {"name": secret, "key": key}}
        for number, (secret, key) in enumerate(refs)
    ]
    body = warmer(prefixRef={"name": prefix}, credentials=credentials)
    return CacheWarmer.model_validate({**body, "metadata": {**body["metadata"], "name": name}})


MINE = using("mine", "payments", "anthropic/api-key")


@pytest.mark.parametrize(
    ("others", "dedicated", "names"),
    [
        pytest.param([], {"payments"}, (), id="alone"),
        pytest.param([using("b", "core", "anthropic/api-key")], set(), (), id="both shared"),
        pytest.param(
            [using("b", "core", "anthropic/api-key")],
            {"payments"},
            ("payments", "core", "b", "'anthropic'", "'api-key'", "payments is Dedicated"),
            id="mine is dedicated",
        ),
        pytest.param(
            [using("b", "core", "anthropic/api-key")],
            {"core"},
            ("payments", "core", "core is Dedicated"),
            id="the other is dedicated",
        ),
        pytest.param(
            [using("b", "core", "anthropic/api-key")],
            {"payments", "core"},
            ("core", "payments and core are Dedicated"),
            id="both are",
        ),
        pytest.param(
            [using("b", "core", "own/api-key", "anthropic/api-key")],
            {"payments"},
            ("core",),
            id="one key of several",
        ),
        pytest.param(
            [using("b", "core", "anthropic/other")],
            {"payments"},
            (),
            id="another key of the Secret",
        ),
        pytest.param([using("b", "core", "own/api-key")], {"payments"}, (), id="another Secret"),
        pytest.param(
            [using("b", "payments", "anthropic/api-key")],
            {"payments"},
            (),
            id="two warmers of one prefix",
        ),
        pytest.param(
            [using("c", "core", "anthropic/api-key"), using("b", "sales", "anthropic/api-key")],
            {"payments"},
            ("b warms sales",),
            id="the first by name, whatever the order",
        ),
    ],
)
def test_a_dedicated_prefix_shares_no_credential(
    others: list[CacheWarmer], dedicated: set[str], names: tuple[str, ...]
) -> None:
    """In either direction; the sentence names both prefixes, the key, and what to do."""
    said = shared_credential(MINE, others, dedicated)
    assert bool(said) == bool(names)
    for name in names:
        assert name in said


NOW = datetime(2026, 11, 21, 9, 3, 50, tzinfo=UTC)
"""Ten seconds before a run of `*/4`."""
EVERY_4 = Timetable("*/4 * * * *")
KEY = LaneKey("prod", OPUS, str(V1.digest))


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def known(state: str = "Warm", **given: Any) -> Lane:
    return Lane.model_validate(lane(V1.digest, state) | given)


def typed(**spec: Any) -> CacheWarmer:
    return CacheWarmer.model_validate(warmer(**spec))


def lanes(**given: Any) -> Lanes:
    return Lanes(wanted=frozenset({KEY}), **given)


@pytest.mark.parametrize(
    ("what", "ttl", "why", "said"),
    [
        pytest.param(lanes(), "5m", None, "", id="nothing is known"),
        # The run after is at 9:08, its request 30 s later, and 10 s are a margin.
        pytest.param(lanes(used={KEY: ago(9)}), "5m", "Traffic", "real requests", id="just used"),
        pytest.param(lanes(used={KEY: ago(11)}), "5m", None, "", id="not until the run after"),
        pytest.param(lanes(used={KEY: ago(180)}), "1h", "Traffic", "", id="until 10:00:40"),
        pytest.param(lanes(used={KEY: ago(200)}), "1h", None, "", id="not until then"),
        pytest.param(
            lanes(tokens={KEY: 500}, counted=frozenset({KEY})),
            "5m",
            "BelowMinimum",
            f"{OPUS} caches from 512 tokens on, and this contract has 500",
            id="counted below the minimum",
        ),
        pytest.param(lanes(tokens={KEY: 500}), "5m", None, "", id="an estimate may be wrong"),
        pytest.param(
            lanes(tokens={KEY: 380}), "5m", "BelowMinimum", "about 380", id="but not that wrong"
        ),
        pytest.param(
            lanes(recorded={KEY: known("Failed", message="429", retryAt=ago(-60).isoformat())}),
            "5m",
            "Retry",
            "429",
            id="the provider wants no request",
        ),
        pytest.param(
            lanes(recorded={KEY: known("Failed", retryAt=ago(-9).isoformat())}),
            "5m",
            None,
            "",
            id="by then it does",
        ),
        pytest.param(
            lanes(elsewhere={KEY: "other"}), "5m", "Elsewhere", "other names", id="another warms it"
        ),
    ],
)
def test_what_a_run_leaves_out(what: Lanes, ttl: Any, why: str | None, said: str) -> None:
    """Only what needs nothing, or cannot be helped; with a sentence."""
    found = skips(typed(), ttl, Timetable(auto(ttl)), what, NOW)
    assert [skip.why for skip in found.values()] == ([why] if why else [])
    assert all(said in skip.message for skip in found.values())


def test_traffic_may_be_ignored() -> None:
    """Who wants every run gets every run."""
    assert skips(typed(skipWhenTraffic=False), "5m", EVERY_4, lanes(used={KEY: NOW}), NOW) == {}


def test_the_denser_runs_for_a_candidate_are_for_it_alone() -> None:
    """What an hour keeps warm is left out of them, until it is due; a cold lane never is."""
    for seconds, left_out in ((60, True), (54 * 60, True), (56 * 60, False)):
        warm = {KEY: known(lastWarmAt=ago(seconds).isoformat())}
        assert bool(skips(typed(), "1h", EVERY_4, lanes(recorded=warm), NOW)) is left_out
    assert skips(typed(), "1h", EVERY_4, lanes(), NOW) == {}


def test_a_lane_as_it_is_shown() -> None:
    """What is left out says so, and is warm or cold again when it is left out no more."""
    life = timedelta(minutes=5)
    (skip,) = skips(typed(), "5m", EVERY_4, lanes(used={KEY: NOW}), NOW).values()
    warm = known(lastWarmAt=ago(60).isoformat())
    skipped = shown(warm, skip, NOW, life, NOW)
    assert (skipped.state, skipped.message) == ("Skipped", "real requests keep it warm")
    assert shown(skipped, None, None, life, NOW) == warm
    later = NOW + timedelta(minutes=10)
    assert shown(skipped, None, None, life, later).state == "Cold"
    assert shown(warm, None, None, life, later).state == "Cold"
    assert shown(warm, None, later, life, later).state == "Warm"  # a real request read it
    assert shown(known("Failed"), None, NOW, life, NOW).state == "Failed"


def test_two_warmers_of_one_lane() -> None:
    """Each learns of the other; the older one warms it."""
    old = using("z", "help-desk", "anthropic/api-key")
    young = using("a", "help-desk", "own/api-key", "anthropic/api-key")
    metadata = young.metadata.model_copy(update={"creation_timestamp": "2026-11-21T09:00:00Z"})
    young = young.model_copy(update={"metadata": metadata})
    assert overlaps(young, [old], [OPUS]) == {("c1", OPUS): "z"}
    assert overlaps(old, [young], [OPUS]) == {("c0", OPUS): "a"}
    assert leaves_to(young, old)
    assert not leaves_to(old, young)


NIGHT = {"from": "20:00", "to": "24:00"}


def stalled(*, holds: str) -> Object:
    condition = {"type": "Stalled", "status": holds, "reason": "X", "message": ""}
    return {"conditions": [{**condition, "lastTransitionTime": "2026-11-21T08:00:00Z"}]}


@pytest.mark.parametrize(
    ("spec", "status", "expected"),
    [
        pytest.param({}, {}, True, id="one that nobody has looked at yet"),
        pytest.param({}, stalled(holds="False"), True, id="one that is well"),
        pytest.param({}, stalled(holds="True"), False, id="one that is stalled"),
        pytest.param({"suspend": True}, {}, False, id="one that is suspended"),
        pytest.param({"schedule": "*/3 * * * *"}, {}, True, id="one that runs often enough"),
        pytest.param({"schedule": "0 9 * * *"}, {}, False, id="one that lets lanes go cold"),
        pytest.param({"schedule": "7-3 * * * *"}, {}, False, id="one without a schedule"),
        pytest.param({"activeHours": NIGHT}, {}, False, id="one that has other hours"),
    ],
)
def test_only_a_warmer_that_warms_then_holds_a_lane(
    spec: Object,
    status: Object,
    expected: bool,  # noqa: FBT001 - a table's column
) -> None:
    """Else nobody would warm it: the other says Ready and leaves it out."""
    other = CacheWarmer.model_validate({**warmer(**spec), "status": status})
    assert holds(other, "5m", NOW) is expected


def test_by_the_hour() -> None:
    """A lane is left to the other one while that has its hours, and at no other time."""
    other, midnight = typed(activeHours=NIGHT), datetime(2026, 11, 21, tzinfo=UTC)
    day = range(0, 24 * 60, 10)
    held = [holds(other, "5m", midnight + timedelta(minutes=minute)) for minute in day]
    assert held == [minute >= 20 * 60 for minute in day]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"prefixRef": {"name": "other"}}, id="another prefix"),
        pytest.param({"models": [HAIKU]}, id="another model"),
        pytest.param({"request": {"effort": "high"}}, id="another effort: another cache"),
        pytest.param({"suspend": True}, id="one that does nothing"),
    ],
)
def test_warmers_that_share_nothing(other: dict[str, Any]) -> None:
    """Though they use the same key."""
    assert overlaps(typed(models=[OPUS]), [typed(**other)], [OPUS, HAIKU]) == {}
