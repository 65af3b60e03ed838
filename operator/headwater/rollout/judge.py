"""What the evidence says about a candidate. Counts go in, a verdict and a sentence come out."""

from collections.abc import Iterable

from headwater.rollout.state import Counts, Evidence, Result, Verdict


def judge(evidence: Evidence, *, min_hit_rate: float, min_requests: int) -> Verdict:
    """Judge each model by itself: a prefix that one model stopped caching is not averaged away.

    A model below the floor rolls back as soon as it has `min_requests` eligible requests, or
    as soon as hits alone could no longer lift it to the floor within that number. All models
    that saw traffic have to reach it for a pass, and no traffic is never a pass.
    """
    for model, counts in sorted(evidence.items()):
        if _is_lost(counts, min_hit_rate, min_requests):
            return Verdict(
                Result.ROLL_BACK,
                f"{_share(model, counts)}, and the floor is {_percent(min_hit_rate)}",
            )
    seen = {model: counts for model, counts in sorted(evidence.items()) if counts.eligible}
    short = [f"{seen[model].eligible} on {model}" for model in _short(seen, min_requests)]
    if short or not seen:
        return Verdict(
            Result.WAITING,
            f"{', '.join(short) or 'none'} of {min_requests} eligible requests seen",
        )
    return Verdict(
        Result.PASS,
        "; ".join(_share(model, counts) for model, counts in seen.items()),
    )


def _is_lost(counts: Counts, min_hit_rate: float, min_requests: int) -> bool:
    """Whether the floor cannot be reached any more within the number that is asked for."""
    asked = max(counts.eligible, min_requests)
    return counts.eligible > 0 and counts.misses > asked * (1 - min_hit_rate) + 1e-9


def _short(seen: Evidence, min_requests: int) -> Iterable[str]:
    return (model for model, counts in seen.items() if counts.eligible < min_requests)


def _share(model: str, counts: Counts) -> str:
    seen = f"{counts.hits} of {counts.eligible} eligible requests"
    return f"on {model} {seen} read the cache ({_percent(counts.hits / counts.eligible)})"


def _percent(share: float) -> str:
    # Four digits: 899 of 1,000 must not read as the 90% that it failed.
    return f"{share * 100:.4g}%"
