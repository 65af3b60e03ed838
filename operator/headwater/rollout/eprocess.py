"""Evidence about a rate that may be looked at at any time.

For a floor p0, `s` successes and `f` failures, the mixture over alternatives q_i = u_i p0 below it

    E = mean of (q_i / p0)^s ((1 - q_i) / (1 - p0))^f

grows beyond any bound where the rate is below the floor, and reaches 1/alpha with a probability
of at most alpha where it is not, however often one looks (Ville's inequality). The alternatives
move with the floor, so every term, and with it E, rises with the floor: what speaks against a
floor speaks against every higher one. docs/judge.md says what this rests on.
"""

from bisect import bisect_right
from functools import lru_cache
from math import exp, inf, log
from typing import Final

_RATIOS: Final = (0.001, 0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.94, 0.98)
"""The alternatives in parts of the floor. Any would be sound; these find a rate of nothing within
a few requests and one close to the floor within a few thousand."""
_THOUSANDTHS: Final = 1000


@lru_cache(maxsize=8192)
def _factors(floor: float) -> tuple[tuple[float, float], ...]:
    """What a success and a failure add to the logarithm of each term."""
    return tuple((log(ratio), log((1 - ratio * floor) / (1 - floor))) for ratio in _RATIOS)


@lru_cache(maxsize=8192)
def below(successes: int, failures: int, floor: float) -> float:
    """The logarithm of the evidence that the rate of successes is below the floor.

    Rises with failures and with the floor, falls with successes; 0 where nothing was seen.
    """
    if not failures:
        floor = 0.0  # without a failure, every floor is as likely
    elif floor >= 1:
        return inf  # one failure refutes it
    terms = [successes * hit + failures * miss for hit, miss in _factors(floor)]
    highest = max(terms)
    return highest + log(sum([exp(term - highest) for term in terms]) / len(terms))


def above(successes: int, failures: int, ceiling: float) -> float:
    """The logarithm of the evidence that the rate of successes is above the ceiling."""
    return below(failures, successes, 1 - ceiling)


@lru_cache(maxsize=8192)
def lowest(successes: int, failures: int, enough: float) -> float:
    """The lower end of a confidence sequence for the rate, in whole thousandths.

    All rates under it are refuted by evidence of at least `enough`, the logarithm of 1/alpha:
    it is above the true rate at any time ever with a probability of at most alpha.
    """
    refuted = bisect_right(
        range(_THOUSANDTHS),
        -enough,
        key=lambda rate: -above(successes, failures, rate / _THOUSANDTHS),
    )
    return max(0, refuted - 1) / _THOUSANDTHS


def highest(successes: int, failures: int, enough: float) -> float:
    """The upper end of such a sequence, in whole thousandths and as seldom wrong."""
    return round(1 - lowest(failures, successes, enough), 3)
