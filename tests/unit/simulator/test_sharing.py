"""Who shares what: a new user, a repeat, another user, and everybody after an idle time.

A prompt of four layers, most stable first: instructions for all (1h), what is known of the user
(5m), the session's history (5m), the question.
"""

from typing import Any

from headwater.providers.usage import Usage
from tests.unit.simulator.prompts import Provider, assistant, body, text, user

FOR_ALL, PERSONAL, TURN, QUESTION = 2000, 1500, 500, 10


def request(name: str, turn: int) -> dict[str, Any]:
    """The `turn`th question of a user, with the turns before it as history."""
    history = [
        message
        for number in range(1, turn)
        for message in (user(text(450, f"{name} {number}")), assistant(text(50, f"re {number}")))
    ]
    if history:
        history[-1]["content"][0]["cache_control"] = {"type": "ephemeral"}
    system = [text(FOR_ALL, "for all", "1h"), text(PERSONAL, name, "5m")]
    return body(*history, user(text(QUESTION, "what now?")), system=system)


def test_sharing_matrix() -> None:
    """One day of two users. Each row: minute, user, turn, tokens read, written for 1h, for 5m."""
    day = [
        # The first of all writes everything, a new user only what is theirs.
        (0, "ana", 1, 0, FOR_ALL, PERSONAL),
        (1, "ben", 1, FOR_ALL, 0, PERSONAL),
        # A repeat reads all, and each turn writes just what came since.
        (2, "ana", 1, FOR_ALL + PERSONAL, 0, 0),
        (3, "ana", 2, FOR_ALL + PERSONAL, 0, TURN),
        (4, "ana", 3, FOR_ALL + PERSONAL + TURN, 0, TURN),
        # Nobody reads another's, nor loses what is theirs.
        (5, "ben", 1, FOR_ALL + PERSONAL, 0, 0),
        # After seven idle minutes the hour's layer is left, sixty minutes after its last read
        # nothing is.
        (12, "ben", 1, FOR_ALL, 0, PERSONAL),
        (71, "ana", 1, FOR_ALL, 0, PERSONAL),
        (131, "ana", 1, 0, FOR_ALL, PERSONAL),
    ]
    provider = Provider()
    for minute, name, turn, read, for_1h, for_5m in day:
        assert provider.ask(request(name, turn), minute * 60) == Usage(
            uncached=QUESTION, cache_read=read, cache_write_1h=for_1h, cache_write_5m=for_5m
        ), f"minute {minute}"


def test_caches_never_cross_workspaces() -> None:
    """The same bytes of another workspace are cold."""
    provider = Provider()
    assert provider.ask(request("ana", 1), workspace="a").cache_read == 0
    assert provider.ask(request("ana", 1), workspace="b").cache_read == 0
    assert provider.ask(request("ana", 1), workspace="a").cache_read == FOR_ALL + PERSONAL
