"""What a warmer may warm, and which lanes a candidate waits for before it gets traffic."""

from typing import Any

import pytest

from headwater.cluster import Object
from headwater.controller.warming import awaited_lanes, shared_credential
from headwater.resources import CacheWarmer
from headwater.rollout.state import State
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
