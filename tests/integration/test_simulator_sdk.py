"""The real `anthropic` SDK is content with the simulator: an old and a current major version."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from headwater.providers.models import models
from tests.cluster.forks import Forked
from tests.cluster.waiting import scaled, wait_until

ROOT = Path(__file__).parents[2]
CLIENT = Path(__file__).with_name("simulator_client.py")
INTERPRETERS = {
    "anthropic 2": Path(sys.executable),
    "anthropic 0": ROOT / ".venv-anthropic-old/bin/python",
}
TYPES = {
    "400": ("BadRequestError", "invalid_request_error"),
    "401": ("AuthenticationError", "authentication_error"),
    "403": ("PermissionDeniedError", "permission_error"),
    "404": ("NotFoundError", "not_found_error"),
    "409": ("ConflictError", "conflict_error"),
    "413": ("ContentTooLargeError", "request_too_large"),
    "429": ("RateLimitError", "rate_limit_error"),
    "500": ("InternalServerError", "api_error"),
    "529": ("OverloadedError", "overloaded_error"),
}

RENAMED = {("0", "413"): "RequestTooLargeError"}
"""Classes that the older SDK has under another name."""


@contextmanager
def simulator(*flags: str) -> Iterator[tuple[Forked, str]]:
    """`headwater simulator`, and its address as its first line says it."""
    with Forked(("simulator", "--port", "0", *flags), os.environ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:")
        yield process, line.removeprefix("listening on ").strip()


@pytest.fixture(scope="module", params=INTERPRETERS)
def seen(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the client saw, run once by each interpreter."""
    python = INTERPRETERS[request.param]
    if not python.exists():
        pytest.fail(f"{python.relative_to(ROOT)} is missing: run make install", pytrace=False)
    with simulator("--latency-base-ms", "30") as (_, url):
        # Nothing of the caller's environment but the search path: no key, no proxy.
        done = subprocess.run(
            [python, "-W", "error", CLIENT, url],
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=scaled(60),
            check=False,
        )
    assert done.returncode == 0, done.stderr
    observed: dict[str, Any] = json.loads(done.stdout)
    assert observed["version"].split(".")[0] == request.param.split()[-1]
    return observed


def counts(message: dict[str, Any]) -> tuple[int, int, int]:
    """Read, written for 5m, written for 1h."""
    usage = message["usage"]
    split = usage["cache_creation"]
    written = (split["ephemeral_5m_input_tokens"], split["ephemeral_1h_input_tokens"])
    assert usage["cache_creation_input_tokens"] == sum(written)
    return (usage["cache_read_input_tokens"], *written)


pytestmark = pytest.mark.xdist_group("simulator-sdk")  # the client runs once in one worker


def test_the_first_writes_and_the_next_reads(seen: dict[str, Any]) -> None:
    """By `messages.create`, sync and async; the numbers are the same ones."""
    for way in ("sync", "async"):
        first, second = seen[way]["messages"]
        read, written, _ = counts(first)
        assert read == 0 < written
        assert counts(second) == (written, 0, 0)
        assert first["usage"]["input_tokens"] == second["usage"]["input_tokens"] > 0
        assert first["usage"]["output_tokens"] == 12
        assert first["stop_reason"] == "end_turn"
        assert (first["type"], first["role"], first["model"]) == (
            "message",
            "assistant",
            "claude-opus-4-8",
        )
        assert len(first["content"][0]["text"].split()) == 12
        assert first["content"] == second["content"]


def test_an_hours_write_is_told_apart(seen: dict[str, Any]) -> None:
    """In the split by TTL."""
    read, for_5m, for_1h = counts(seen["sync"]["hour"])
    assert read == for_5m == 0 < for_1h


def test_a_stream_says_the_same_as_a_whole_answer(seen: dict[str, Any]) -> None:
    """Text, stop reason and usage, first writing, then reading."""
    first, second = seen["sync"]["streams"]
    _, written, _ = counts(first["final"])
    assert counts(second["final"]) == (written, 0, 0)
    for stream in (first, second):
        assert stream["final"]["content"][0]["text"] == stream["text"]
        assert stream["final"]["usage"]["output_tokens"] == 12 == len(stream["text"].split())
        assert stream["final"]["stop_reason"] == "end_turn"
    read, *_ = counts(seen["async"]["stream"])
    assert read == counts(seen["async"]["messages"][1])[0]


def test_the_events_of_a_stream(seen: dict[str, Any]) -> None:
    """In the provider's order; the SDK itself drops the ping."""
    events = seen["sync"]["raw events"]
    assert [event for event in events if event != "content_block_delta"] == [
        "message_start",
        "content_block_start",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events.count("content_block_delta") == 2


def test_a_request_of_no_tokens_warms(seen: dict[str, Any]) -> None:
    """No content, no output, a write; the request after it reads it."""
    warming, after = seen["sync"]["warmed"]
    assert warming["content"] == []
    assert warming["stop_reason"] == "max_tokens"
    assert warming["usage"]["output_tokens"] == 0
    assert counts(after) == (counts(warming)[1], 0, 0)
    assert after["usage"]["output_tokens"] == 5
    assert after["stop_reason"] == "max_tokens"


def test_a_count_is_what_is_billed(seen: dict[str, Any]) -> None:
    """All of the prompt, and counting it leaves the cache cold."""
    message = seen["sync"]["count's prompt"]
    read, written, _ = counts(message)
    assert read == 0
    assert seen["sync"]["counted"] == written + message["usage"]["input_tokens"]


def test_models_by_pages(seen: dict[str, Any]) -> None:
    """Five at a time, every model once, in order; an alias is retrieved by its dated id."""
    every = [facts.dated_id or facts.id for facts in models()]
    assert seen["sync"]["models"] == seen["async"]["models"] == every
    assert seen["sync"]["model"] == "claude-opus-4-5-20251101"


@pytest.mark.parametrize("status", TYPES)
def test_a_refusal_is_the_sdks_error_of_its_kind(seen: dict[str, Any], status: str) -> None:
    """Class, status, the body's type, and the request's id."""
    refusal = seen["sync"]["refusals"][status]
    kind, wire = TYPES[status]
    assert refusal["class"] == RENAMED.get((seen["version"].split(".")[0], status), kind)
    assert refusal["status"] == int(status)
    assert refusal["body"]["error"]["type"] == wire
    assert refusal["body"]["request_id"] == refusal["request_id"]
    assert refusal["request_id"].startswith("req_")


@pytest.mark.parametrize(
    ("case", "kind", "words"),
    [
        ("five markers", "BadRequestError", "A maximum of 4 blocks with cache_control"),
        ("unknown model", "NotFoundError", "model: claude-none"),
        ("warm and stream", "BadRequestError", "stream: not supported with max_tokens=0"),
    ],
)
def test_what_the_provider_refuses(seen: dict[str, Any], case: str, kind: str, words: str) -> None:
    """It reaches an application in the provider's words."""
    assert seen["sync"][case]["class"] == kind
    assert words in seen["sync"][case]["body"]["error"]["message"]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_rate_limit_is_waited_for(seen: dict[str, Any], way: str) -> None:
    """As long as retry-after says, which is longer than the SDK would wait by itself."""
    assert seen[way]["after a 429"] == "end_turn"
    assert seen[way]["waited"] >= 0.8


def test_a_lost_connection_is_tried_again(seen: dict[str, Any]) -> None:
    """The planned fault is used up, so the retry succeeds."""
    assert seen["sync"]["after a disconnect"] == "end_turn"


def test_half_an_answer_is_an_error(seen: dict[str, Any]) -> None:
    """Whole or streaming, it never passes for an answer."""
    assert seen["sync"]["truncated"]["class"] == "APIConnectionError"
    assert seen["sync"]["truncated stream"]["class"] in {
        "RemoteProtocolError",  # of httpx, as the SDK hands it on
        "APIConnectionError",
    }


def test_an_error_inside_a_stream_is_raised(seen: dict[str, Any]) -> None:
    """After a 200, as an event."""
    found = seen["sync"]["error in a stream"]
    assert found["body"]["error"]["type"] == "overloaded_error"


def test_twenty_at_once_all_write_and_afterwards_all_read(seen: dict[str, Any]) -> None:
    """A cold lane is readable once an answer has begun, not before."""
    cold, warm = (
        [counts({"usage": usage}) for usage in seen["async"][group]] for group in ("cold", "warm")
    )
    _, written, _ = cold[0]
    assert cold == [(0, written, 0)] * 20
    assert warm == [(written, 0, 0)] * 20


def call(url: str, body: Any = None, **headers: str) -> Any:
    data = None if body is None else json.dumps(body).encode()
    given = {"x-api-key": "k", "anthropic-version": "2023-06-01"} | headers
    with urllib.request.urlopen(urllib.request.Request(url, data, given)) as answer:
        return json.load(answer)


def marked(model: str = "claude-opus-4-8") -> dict[str, Any]:
    block = {"type": "text", "text": "x" * 8000, "cache_control": {"type": "ephemeral"}}
    question = [{"role": "user", "content": "hi"}]
    return {"model": model, "max_tokens": 1, "system": [block], "messages": question}


def test_at_a_scale_five_minutes_pass_in_a_blink() -> None:
    """`--time-scale 1000`: a read within the TTL, a write after it; then SIGTERM ends it with 0."""
    with simulator("--time-scale", "1000", "--latency-base-ms", "0") as (process, url):

        def now() -> float:
            return float(call(f"{url}/_simulator/stats")["now"])

        first = call(f"{url}/v1/messages", marked())
        began = now()
        wait_until(lambda: now() > began + 300, 5, "five simulated minutes pass")
        again = call(f"{url}/v1/messages", marked())
        for answer in (first, again):
            assert counts(answer)[0] == 0 < counts(answer)[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(scaled(30)) == 0
        assert process.stdout is not None
        assert process.stdout.read() == ""


def test_the_clock_can_be_put_forward() -> None:
    """Without a scale, so that a test says what time it is: 299 s a read, 300 s later a write."""
    with simulator("--latency-base-ms", "0", "--time-scale", "0") as (_, url):
        reads = []
        for seconds in (0, 299, 301):
            call(f"{url}/_simulator/advance", {"seconds": seconds})
            reads.append(counts(call(f"{url}/v1/messages", marked()))[0] > 0)
        assert reads == [False, True, False]


def test_a_hanging_answer_does_not_hold_up_the_end() -> None:
    """SIGTERM ends it with 0 while a client still waits."""
    with simulator() as (process, url):
        call(f"{url}/_simulator/faults", {"faults": ["hang"]})
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(call, f"{url}/v1/messages", marked())
            wait_until(lambda: call(f"{url}/_simulator/stats")["received"] == 1, 10, "it hangs")
            process.send_signal(signal.SIGTERM)
            assert process.wait(scaled(30)) == 0
            with pytest.raises(OSError, match=r"(?i)closed|reset"):
                waiting.result(10)


def test_a_port_in_use_is_said_in_a_sentence() -> None:
    """And what to do next; no traceback."""
    with simulator() as (_, url):
        port = url.rsplit(":", 1)[1]
        headwater = Path(sys.executable).with_name("headwater")
        done = subprocess.run(
            [headwater, "simulator", "--port", port],
            capture_output=True,
            text=True,
            timeout=scaled(30),
            check=False,
        )
    assert done.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{port}: " in done.stderr
    assert "Choose another --port" in done.stderr
    assert "Traceback" not in done.stderr
