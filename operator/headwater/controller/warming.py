"""What a warmer may warm, and which of a candidate's lanes it is about to. Pure."""

from collections.abc import Collection, Iterable

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


def shared_credential(
    warmer: CacheWarmer, others: Iterable[CacheWarmer], dedicated: Collection[str]
) -> str:
    """Why a warmer must not run, and what to do; empty where it may.

    A Dedicated prefix shares no credential with another prefix, in either direction. `others` are
    warmers of the same namespace, since a Secret is its namespace's; `dedicated` the names of
    that namespace's Dedicated prefixes.
    """
    mine = warmer.spec.prefix_ref.name
    used = {credential.secret_ref for credential in warmer.spec.credentials}
    for other in sorted(others, key=lambda one: one.metadata.name):
        theirs = other.spec.prefix_ref.name
        shared = [one.secret_ref for one in other.spec.credentials if one.secret_ref in used]
        alone = [name for name in (mine, theirs) if name in dedicated]
        if shared and alone and mine != theirs:
            return (
                f"it warms {mine} with the key {shared[0].key!r} of the Secret {shared[0].name!r},"
                f" and {other.metadata.name} warms {theirs} with it: {' and '.join(alone)}"
                f" {'are' if len(alone) > 1 else 'is'} Dedicated and shares no credential; use a"
                " Secret with a key of another workspace for one of them"
            )
    return ""
