"""Which of a candidate's lanes a warmer is about to warm. Pure."""

from collections.abc import Iterable

from headwater.cluster import Object
from headwater.contract.digest import Digest
from headwater.resources import CacheWarmer
from headwater.rollout.state import State


def awaited_lanes(warmers: Iterable[Object], state: State, declared: Digest) -> tuple[str, ...]:
    """The lanes worth waiting for before the declared revision gets traffic.

    A lane counts while the same warmer keeps its stable sister warm: outside of its hours, or
    where it fails, nothing would come.
    """
    if state.stable is None:
        return ()
    stable = state.stable.digest
    awaited = set()
    for body in warmers:
        warmer = CacheWarmer.model_validate(body)
        if warmer.spec.suspend or warmer.spec.warm != "StableAndCandidate":
            continue
        states = {
            (lane.credential, lane.model, lane.digest): lane.state for lane in warmer.status.lanes
        }
        awaited |= {
            f"{credential} on {model}"
            for credential, model, digest in states
            if digest == stable
            and states[credential, model, stable] == "Warm"
            and states.get((credential, model, declared), "Cold") == "Cold"
        }
    return tuple(sorted(awaited))
