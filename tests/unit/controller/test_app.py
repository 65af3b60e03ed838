"""What the controller's process does beside its work."""

import asyncio

import pytest

from headwater.controller import app


def test_only_a_watch_that_is_stopped_in_its_middle_is_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Kopf's generator objects to being closed from outside; everything else is an error."""
    loop = asyncio.new_event_loop()
    try:
        app._heard(loop, {"message": "while closing", "asyncgen": object()})
        assert caplog.messages == []
        app._heard(loop, {"message": "a task failed"})
        assert caplog.messages == ["a task failed"]
    finally:
        loop.close()
