"""One look at all texts for all rules: which of them are worth an exact search.

Most contracts have nothing that most rules look for. RE2 tries any number of expressions in one
pass, in a hundredth of the time that Python takes to try them one after the other.
"""

import re
from collections.abc import Mapping
from typing import Final

import re2  # type: ignore[import-untyped]

_LOOKING_ROUND: Final = re.compile(r"\(\?<?[=!](?:[^()\[\]]|\[(?:\\.|[^\]\\])*\])*\)")
_WIDER: Final = (
    *(("*+", "*"), ("++", "+"), ("}+", "}")),
    # Its shorthands know ASCII alone, so a digit is written as [0-9] in a pattern.
    *((r"\s", r"\s\pZ"), (r"\w{", r"[\w[:^ascii:]]{")),
)
_MEMORY: Final = 1 << 21
"""Bytes that one look may remember; where they are full it forgets and goes on."""


class FirstLook:
    """Expressions by name, looked for at once."""

    def __init__(self, expressions: Mapping[str, str]) -> None:
        """`expressions` are RE2's."""
        options = re2.Options()
        options.max_mem = _MEMORY
        self._names = tuple(expressions)
        self._set = re2.Set.SearchSet(options)
        for expression in expressions.values():
            self._set.Add(expression)
        self._set.Compile()

    def seen(self, text: str) -> frozenset[str]:
        """The names of the expressions that match anywhere in the text."""
        return frozenset(self._names[index] for index in self._set.Match(text) or ())


def loosened(pattern: re.Pattern[str]) -> str:
    """The pattern as RE2 takes it: it matches wherever the pattern does, and elsewhere, too.

    RE2 does not look round, and gives nothing up for good.
    """
    loose = _LOOKING_ROUND.sub("", pattern.pattern)
    for exact, wider in _WIDER:
        loose = loose.replace(exact, wider)
    flags = {re.IGNORECASE: "i", re.MULTILINE: "m"}
    return "".join(f"(?{name})" for flag, name in flags.items() if pattern.flags & flag) + loose
