"""From a rollout's state to the route that consumers read. Pure."""

from collections.abc import Iterable

from headwater.contract.digest import Digest
from headwater.contract.placing import Placing, Point
from headwater.contract.route import Revision, Route, WarmLane, Weight, salt_for
from headwater.controller.objects import Key
from headwater.resources import PromptPrefix
from headwater.resources.warmer import Lane
from headwater.rollout.state import State


def in_bundle(state: State) -> list[Revision]:
    """Every revision whose bytes consumers have, the stable one first."""
    candidate = state.candidate.revision if state.candidate else None
    offered = [revision for revision in (state.stable, candidate) if revision is not None]
    return [*offered, *(item.revision for item in state.retained)]


def route_of(key: Key, prefix: PromptPrefix, state: State, lanes: Iterable[Lane]) -> Route | None:
    """The route of a prefix; None while it serves nothing. `lanes` are those of its warmers."""
    candidate = state.candidate
    stable = state.stable
    if stable is None and candidate is not None:
        stable, candidate = candidate.revision, None  # a first version that has yet to prove itself
    if stable is None:
        return None
    lanes = list(lanes)
    used = {revision.digest for revision in in_bundle(state)}
    counted = counted_tokens(lanes)
    owner = prefix.spec.owner
    return Route(
        namespace=key.namespace,
        prefix=key.name,
        epoch=state.epoch,
        salt=salt_for(*key, candidate.revision.digest if candidate else None),
        stable=stable,
        candidate=candidate.revision if candidate else None,
        weight=candidate.weight if candidate else Weight(0),
        models=prefix.spec.models,
        ttl=prefix.spec.ttl,
        enforcement=prefix.spec.enforcement,
        provider=prefix.spec.provider,
        tokens={digest: counted[digest] for digest in sorted(used & set(counted))},
        kept_warm=_kept_warm(lanes, used),
        retained=tuple(item.revision for item in state.retained),
        owner=f"{owner.team} ({owner.contact})" if owner.contact else owner.team,
        placing=Placing(
            prefix.spec.breakpoint_strategy,
            tuple(Point(point.role, point.index) for point in prefix.spec.injection_points),
        ),
    )


def counted_tokens(lanes: Iterable[Lane]) -> dict[Digest, dict[str, int]]:
    """Contract tokens by digest and model, as the provider counted them when it was warmed.

    A warming request has one marker after the contract and nothing else that is cached.
    """
    counted: dict[Digest, dict[str, int]] = {}
    for lane in lanes:
        usage = lane.last_usage
        if usage is None:
            continue
        tokens = usage.cache_read + usage.cache_write5m + usage.cache_write1h
        if tokens:
            counted.setdefault(lane.digest, {})[lane.model] = tokens
    return counted


def _kept_warm(lanes: Iterable[Lane], used: set[Digest]) -> tuple[WarmLane, ...]:
    return tuple(
        sorted(
            {
                WarmLane(lane.digest, lane.model, lane.fingerprint)
                for lane in lanes
                # What is left to its traffic is kept warm, too: the warmer steps in when it ends.
                if lane.state in ("Warm", "Skipped") and lane.fingerprint and lane.digest in used
            },
            key=lambda lane: (lane.digest, lane.model, lane.credential),
        )
    )
