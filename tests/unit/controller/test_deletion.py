"""When a deletion is held, and what is said about it."""

from datetime import UTC, datetime
from itertools import product

import pytest

from headwater.controller.consumers import Consumer
from headwater.controller.deletion import finalizer_wanted, held_message
from headwater.controller.objects import Key

AT = datetime(2026, 11, 21, 9, tzinfo=UTC)
PREFIX = Key("ai-platform", "help-desk")


def consumers(*pods: tuple[str, str]) -> list[Consumer]:
    return [Consumer(Key(*pod), AT, "") for pod in pods]


ONE = consumers(("sales", "web"))


@pytest.mark.parametrize(
    ("present", "deleted", "pods", "forced", "terminating", "wanted"),
    [
        pytest.param(False, False, [], False, False, False, id="nobody uses it: no write"),
        pytest.param(False, False, ONE, False, False, True, id="the first consumer"),
        pytest.param(False, False, ONE, False, True, False, id="its namespace goes away"),
        pytest.param(True, False, [], False, False, True, id="they left: no write"),
        pytest.param(True, False, ONE, True, False, True, id="force means nothing before"),
        pytest.param(True, True, ONE, False, False, True, id="held"),
        pytest.param(True, True, [], False, False, False, id="nobody is left"),
        pytest.param(True, True, ONE, True, False, False, id="forced"),
        pytest.param(True, True, ONE, False, True, False, id="held, and its namespace goes"),
        pytest.param(False, True, ONE, False, False, False, id="too late to hold"),
    ],
)
def test_when_the_finalizer_is_wanted(
    *,
    present: bool,
    deleted: bool,
    pods: list[Consumer],
    forced: bool,
    terminating: bool,
    wanted: bool,
) -> None:
    """Lazily put on, and off only with the deletion."""
    found = finalizer_wanted(
        present=present,
        deleted=deleted,
        consumers=pods,
        forced=forced,
        namespace_terminating=terminating,
    )
    assert found is wanted


def test_none_is_added_to_what_is_being_deleted() -> None:
    """The API server would refuse it, whatever else is the case."""
    for pods, forced, terminating in product([[], ONE], [False, True], [False, True]):
        assert not finalizer_wanted(
            present=False,
            deleted=True,
            consumers=pods,
            forced=forced,
            namespace_terminating=terminating,
        )


def test_the_message_names_some_of_them_and_the_way_out() -> None:
    """Enough to find them, and the command as it is typed."""
    message = held_message(PREFIX, consumers(("sales", "web"), ("billing", "api")))
    assert "2 pods in 2 namespaces still mount its bundle (billing/api, sales/web)" in message
    assert message.endswith(
        "kubectl annotate promptprefix help-desk -n ai-platform headwater.dev/force-deletion=true"
    )


def test_the_message_stays_short() -> None:
    """A thousand pods are a number."""
    message = held_message(PREFIX, consumers(*(("sales", f"web-{n:03}") for n in range(1000))))
    assert "1000 pods in 1 namespaces" in message
    assert "(sales/web-000, sales/web-001, sales/web-002, …)" in message
