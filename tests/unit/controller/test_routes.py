"""The route that consumers read follows from the state alone."""

from datetime import timedelta

from headwater.contract.placing import Placing, Point
from headwater.contract.route import salt_for
from headwater.controller.routes import in_bundle, route_of
from headwater.resources import PromptPrefix
from headwater.rollout.state import Retained, State
from tests.unit.controller.bodies import PREFIX, prompt_prefix
from tests.unit.rollout.stories import START, V1, V2, V3, serving, trying

DECLARED = PromptPrefix.model_validate(prompt_prefix())
KEPT = Retained(V3, START + timedelta(minutes=7))


def test_nothing_is_served() -> None:
    """Then there is no route, and no bundle."""
    assert route_of(PREFIX, DECLARED, State(), []) is None
    assert in_bundle(State()) == []


def test_a_canary() -> None:
    """Stable, the candidate and its share, and the draw that belongs to this candidate."""
    state = trying(V2, 10, retained=(KEPT,))
    route = route_of(PREFIX, DECLARED, state, [])
    assert route is not None
    assert (route.stable, route.candidate, route.weight) == (V1, V2, 1000)
    assert (route.epoch, route.salt) == (state.epoch, salt_for(*PREFIX, V2.digest))
    assert route.retained == (V3,)
    assert list(route.revisions) == in_bundle(state) == [V1, V2, V3]


def test_a_first_version_that_has_yet_to_prove_itself() -> None:
    """Consumers get it as they would a stable one: there is no other."""
    route = route_of(PREFIX, DECLARED, trying(V1, 100, stable=None), [])
    stable = route_of(PREFIX, DECLARED, serving(V1, epoch=3), [])
    assert route is not None
    assert (route.stable, route.candidate, route.weight) == (V1, None, 0)
    assert route == stable, "so that becoming stable changes no bundle"


def test_where_consumers_markers_go() -> None:
    """As it is declared."""
    body = prompt_prefix()
    body["spec"]["injectionPoints"] = [{"role": "user", "index": -2}, {}]
    route = route_of(PREFIX, PromptPrefix.model_validate(body), serving(V1, epoch=3), [])
    assert route is not None
    assert route.placing == Placing(points=(Point("user", -2), Point(None, -1)))
