"""What is counted for every way in which a request can end."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headwater.contract.assembly import Request, splice
from headwater.contract.bundle import Bundle
from headwater.contract.content import canonical_bytes, content
from headwater.contract.digest import Digest
from headwater.contract.reasons import RefusalError
from headwater.contract.route import Revision, Weight
from headwater.sidecar.bundles import BundleFollower
from headwater.sidecar.exchange import Exchange, Exchanges, UnservedError, headers_of
from headwater.sidecar.lanes import Lanes
from headwater.sidecar.metrics import Identity, Metrics
from headwater.sidecar.relay.plan import Ending
from tests.unit.sidecar import bundles

HEADERS = {"x-api-key": "sk-secret"}
LABELS = {
    "namespace": "team-a", "team": "search", "surface": "chat", "workload": "web",
    "prefix": "org-core", "version": "v1", "digest12": bundles.make().route.stable.digest.short,
    "model": bundles.MODEL,
}  # fmt: skip


class Bench:
    def __init__(self, directory: Path, declared: Bundle | None) -> None:
        if declared is not None:
            bundles.write_plain(directory, declared)
        self.now = 1000.0
        follower = BundleFollower(directory)
        follower.poll()
        lanes = Lanes()
        identity = Identity("team-a", "search", "chat", "web")
        clock = lambda: self.now  # noqa: E731 - a clock that tests set
        self.metrics = Metrics(identity, follower, lanes, clock, lambda: self.now + 1e9)
        self.exchanges = Exchanges(follower, lanes, self.metrics, clock)

    def open(
        self, *, counted: bool = True, session: str = "", ask: bool = False, **fields: Any
    ) -> Exchange:
        headers = HEADERS | ({"x-headwater-session": session} if session else {})
        headers |= {"x-headwater-conversation": "tell"} if ask else {}
        body = {"model": bundles.MODEL, "messages": [{"role": "user", "content": "x"}], **fields}
        return self.exchanges.open(headers, json.dumps(body).encode(), counted=counted)

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        text = self.metrics.exposition().decode()
        return [
            (sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        ]

    def outcomes(self) -> dict[tuple[str, str], float]:
        return {
            (labels["outcome"], labels["eligible"]): value
            for labels, value in self.samples("headwater_requests_total")
        }


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, bundles.make())


def usage(read: int, written: int) -> bytes:
    return json.dumps(
        {
            "usage": {
                "input_tokens": 7,
                "cache_read_input_tokens": read,
                "cache_creation_input_tokens": written,
                "output_tokens": 5,
            }
        }
    ).encode()


async def answered(
    bench: Bench, answer: bytes, *, status: int = 200, ending: Ending = Ending.COMPLETE
) -> None:
    exchange = bench.open()
    await exchange.enter()
    exchange.began(status, "application/json")
    exchange.chunk(answer)
    exchange.end(ending)


async def test_a_write_and_a_read_are_counted_with_all_labels(bench: Bench) -> None:
    """The first is no evidence, the second is a hit that was expected; tokens add up."""
    await answered(bench, usage(0, 100))
    await answered(bench, usage(100, 0))
    assert bench.outcomes() == {("miss", "false"): 1, ("hit", "true"): 1}
    ((labels, misses),) = bench.samples("headwater_misses_total")
    assert (labels["reason"], misses) == ("cold", 1)
    (labels, _), _ = bench.samples("headwater_requests_total")
    assert LABELS.items() <= labels.items()
    tokens = {
        labels["kind"]: value for labels, value in bench.samples("headwater_input_tokens_total")
    }
    assert tokens == {
        "uncached": 14, "cache_read": 100, "cache_write_5m": 100, "cache_write_1h": 0
    }  # fmt: skip
    assert [value for _, value in bench.samples("headwater_output_tokens_total")] == [10]
    # Opus 4.8, dollars per million: in 5, 5-minute write 6.25, read 0.50, out 25.
    ((_, cost),) = bench.samples("headwater_cost_usd_total")
    assert cost == pytest.approx((14 * 5 + 100 * 6.25 + 100 * 0.5 + 10 * 25) / 1e6)
    ((_, savings),) = bench.samples("headwater_savings_usd_total")
    assert savings == pytest.approx((100 * 4.5 - 100 * 1.25) / 1e6)


def test_what_is_remembered_of_a_request_changes_no_byte(bench: Bench, tmp_path: Path) -> None:
    """Each leaves as if it were the first of its kind, another bundle's contract included."""
    like: list[dict[str, Any]] = [
        {},
        {"system": "Be brief."},
        {"system": [{"type": "text", "text": "Be brief."}]},
        {"tools": [{"name": "mine", "defer_loading": True}]},
        {"max_tokens": 1.0},
    ]
    turns: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": "x"}]},
        {"messages": [{"role": "user", "content": "y"}], "metadata": {"user_id": "u"}},
        {"metadata": None, "messages": []},
    ]
    for version in ("v1", "v2"):
        bundles.write_plain(tmp_path, bundles.make(version))
        bench.exchanges.bundles.poll()
        served = bench.exchanges.bundles.served
        assert served is not None
        (contract,) = served.contracts.values()
        for fields in [{**kind, **turn} for turn in turns for kind in like]:
            body = json.dumps({"model": bundles.MODEL, **fields}).encode()
            sent = bench.exchanges.open(HEADERS, body, counted=True).parts
            alone = splice(Request.read(body), contract, served.route.models)
            assert b"".join(sent) == alone.body
            assert json.loads(alone.body)["messages"] == fields["messages"]


@pytest.mark.parametrize(
    ("status", "answer", "ending", "outcome"),
    [
        (200, usage(0, 0), Ending.COMPLETE, "miss"),
        (200, b"?", Ending.COMPLETE, "unknown"),
        (200, usage(100, 0), Ending.CUT, "error"),
        (200, usage(100, 0), Ending.ABORTED, "aborted"),
        (400, b"{}", Ending.COMPLETE, "error"),
        (413, b"{}", Ending.COMPLETE, "error"),
        (401, b"{}", Ending.COMPLETE, "rejected"),
        (429, b"{}", Ending.COMPLETE, "rejected"),
        (500, b"{}", Ending.COMPLETE, "error"),
        (529, b"{}", Ending.COMPLETE, "error"),
    ],
)
async def test_how_a_request_ends(
    bench: Bench, status: int, answer: bytes, ending: Ending, outcome: str
) -> None:
    """What may be the contract's fault is an error; what cannot be is none."""
    await answered(bench, usage(0, 100))
    await answered(bench, answer, status=status, ending=ending)
    assert bench.outcomes()[outcome, "true"] == 1


async def test_no_answer_at_all_is_an_error_and_frees_the_lane(bench: Bench) -> None:
    """The provider was down: the next request may lead."""
    exchange = bench.open()
    await exchange.enter()
    exchange.end(Ending.COMPLETE)
    assert bench.outcomes() == {("error", "false"): 1}
    await bench.open().enter()


async def test_a_stream_is_counted_from_its_events(bench: Bench) -> None:
    """In whatever pieces it comes; an application that goes away still paid."""
    exchange = bench.open(stream=True)
    await exchange.enter()
    exchange.began(200, "text/event-stream; charset=utf-8")
    event = {"type": "message_start", "message": json.loads(usage(30, 70))}
    for byte in f"event: message_start\r\ndata: {json.dumps(event)}\r\n\r\n".encode():
        exchange.chunk(bytes([byte]))
    exchange.end(Ending.ABORTED)
    assert bench.outcomes() == {("aborted", "false"): 1}
    kinds = {
        labels["kind"]: value for labels, value in bench.samples("headwater_input_tokens_total")
    }
    assert (kinds["cache_read"], kinds["cache_write_5m"]) == (30, 70)


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("overloaded_error", "error"),
        ("api_error", "error"),
        ("invalid_request_error", "error"),
        ("one_that_is_new", "error"),
        ("rate_limit_error", "rejected"),
        ("billing_error", "rejected"),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("ending", Ending)
async def test_a_stream_that_ends_with_an_error_ended_as_that_status_would(
    bench: Bench, kind: str, outcome: str, size: int, ending: Ending
) -> None:
    """Although its status was 200 and its usage says hit; what it used is counted.

    However the connection ends thereafter: SDKs leave when they read of an error.
    """
    await answered(bench, usage(0, 100))
    exchange = bench.open(stream=True)
    await exchange.enter()
    exchange.began(200, "text/event-stream")
    events = [
        {"type": "message_start", "message": json.loads(usage(100, 0))},
        {"type": "content_block_delta", "delta": {"text": 'event: error\n{"type":"error"}'}},
        {"type": "error", "error": {"type": kind, "message": "Over\nloaded"}},
    ]
    stream = "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in events)
    for at in range(0, len(stream), size):
        exchange.chunk(stream[at : at + size].encode())
    exchange.end(ending)
    assert bench.outcomes() == {("miss", "false"): 1, (outcome, "true"): 1}
    reads = [
        value
        for labels, value in bench.samples("headwater_input_tokens_total")
        if labels["kind"] == "cache_read"
    ]
    assert reads == [100]


def test_a_refusal_is_counted_by_reason_and_never_sent(bench: Bench) -> None:
    """The model's label stays bounded, whatever a request names."""
    with pytest.raises(RefusalError):
        bench.open(model="sk-oops-a-key-in-the-wrong-place")
    assert bench.outcomes() == {("refused", "false"): 1}
    ((labels, _),) = bench.samples("headwater_contract_violations_total")
    assert (labels["reason"], labels["model"]) == ("other_model", "other")
    assert b"oops" not in bench.metrics.exposition()


def two_shapes(candidate: bytes, weight: int = 100) -> Bundle:
    """A bundle whose stable contract has system text alone, and another candidate."""
    stable = canonical_bytes(content(tools=[], system=[{"text": "Be brief."}], ttl="1h"))
    revisions = [
        Revision(f"v{n}", Digest.of(data)) for n, data in enumerate((stable, candidate), 1)
    ]
    declared = bundles.make()
    route = replace(
        declared.route, stable=revisions[0], candidate=revisions[1], weight=Weight.percent(weight)
    )
    return Bundle(route, {Digest.of(data): data for data in (stable, candidate)})


TOOLS = [{"name": "search", "input_schema": {"type": "object"}}]
MORE_MARKERS = canonical_bytes(content(tools=TOOLS, system=[{"text": "Be kind."}], ttl="1h"))
SHORTER = canonical_bytes(content(tools=[], system=[{"text": "Be kind."}], ttl="5m"))


def marked(ttl: str, count: int) -> list[dict[str, Any]]:
    marker = {"type": "ephemeral", "ttl": ttl}
    return [{"type": "text", "text": f"own {n}", "cache_control": marker} for n in range(count)]


@pytest.mark.parametrize(
    ("candidate", "system", "reason"),
    [
        (MORE_MARKERS, marked("5m", 3), "too_many_markers"),
        (SHORTER, marked("1h", 1), "ttl_order"),
    ],
    ids=["more markers", "a shorter ttl"],
)
def test_what_the_candidate_alone_refuses_is_its_failure(
    tmp_path: Path, candidate: bytes, system: list[dict[str, Any]], reason: str
) -> None:
    """It is booked on the candidate; what stable refuses as well is the caller's."""
    bench = Bench(tmp_path, two_shapes(candidate))
    with pytest.raises(RefusalError):
        bench.open(system=system)
    with pytest.raises(RefusalError):
        bench.open(tools=[{"name": "mine"}])
    assert bench.outcomes() == {("refused", "true"): 1, ("refused", "false"): 1}
    for name in ("headwater_requests_total", "headwater_contract_violations_total"):
        assert {labels["version"] for labels, _ in bench.samples(name)} == {"v2"}
    first, second = bench.samples("headwater_contract_violations_total")
    assert {first[0]["reason"], second[0]["reason"]} == {reason, "own_tools"}


def test_on_stable_the_same_request_is_sent(tmp_path: Path) -> None:
    """Else it would not be the candidate's failure."""
    bench = Bench(tmp_path, two_shapes(MORE_MARKERS, weight=0))
    revision = bench.open(system=marked("5m", 3)).revision
    assert revision is not None
    assert revision.version == "v1"


def test_what_a_session_changed_is_the_sessions_own(tmp_path: Path) -> None:
    """Whatever the revision: it says nothing against the candidate."""
    bench = Bench(tmp_path, two_shapes(MORE_MARKERS))
    bench.open(session="s", thinking={"type": "adaptive"})
    with pytest.raises(RefusalError, match="is another one than at the beginning"):
        bench.open(session="s", thinking={"type": "enabled", "budget_tokens": 1024})
    assert bench.outcomes() == {("refused", "false"): 1}


async def test_observe_passes_untouched_and_counts(tmp_path: Path) -> None:
    """Bytes as they came, no revision claimed, the violation seen."""
    bench = Bench(tmp_path, bundles.observing(bundles.make()))
    exchange = bench.open(tools=[{"name": "mine"}])
    assert json.loads(b"".join(exchange.parts))["tools"] == [{"name": "mine"}]
    assert exchange.revision is None
    await exchange.enter()
    exchange.began(200, "application/json")
    exchange.chunk(usage(0, 100))
    exchange.end(Ending.COMPLETE)
    assert bench.outcomes() == {("off_contract", "false"): 1}
    ((labels, _),) = bench.samples("headwater_contract_violations_total")
    assert labels["reason"] == "own_tools"
    ((labels, _),) = bench.samples("headwater_output_tokens_total")
    assert labels["digest12"] == ""


@pytest.mark.parametrize("enforced", [True, False])
def test_the_first_place_that_differs_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, enforced: bool
) -> None:
    """In the answer's headers, as a metric, and once a minute in the log; a prompt nowhere."""
    declared = bundles.make()
    bench = Bench(tmp_path, declared if enforced else bundles.observing(declared))
    tools = [{"name": "search", "input_schema": {"type": "object"}}, {"name": "Tell no-one."}]
    for _ in range(3):
        if enforced:
            with pytest.raises(RefusalError, match=r"^own_tools: tools\[1\]: own tools") as refused:
                bench.open(tools=tools)
            told = headers_of(refused.value)
        else:
            told = dict(bench.open(tools=tools).headers)
        assert told == {"x-headwater-reason": "own_tools", "x-headwater-at": "tools[1]"}
        bench.now += 30
    ((labels, at),) = bench.samples("headwater_off_contract_timestamp_seconds")
    assert (labels["reason"], labels["at"], at) == ("own_tools", "tools[1]", 1060 + 1e9)
    logged = [vars(record) for record in caplog.records if "times" in vars(record)]
    assert [line["times"] for line in logged] == [1, 2]
    assert "no-one" not in str(logged) + bench.metrics.exposition().decode()


def test_the_refusal_names_the_owner(tmp_path: Path) -> None:
    """Whom to ask stands in the bundle."""
    declared = bundles.make()
    owned = replace(declared, route=replace(declared.route, owner="ai-platform (#ai)"))
    with pytest.raises(
        RefusalError, match=r"ai-platform/org-core belongs to ai-platform \(#ai\)\."
    ):
        Bench(tmp_path, owned).open(tools=[{"name": "mine"}])


@pytest.mark.parametrize(
    ("fields", "reason", "place"),
    [
        ({"thinking": {"type": "adaptive"}}, "thinking_changed", "thinking"),
        ({"output_config": {"effort": "low"}}, "effort_changed", "output_config.effort"),
        ({"speed": "fast"}, "speed_changed", "speed"),
        ({"model": "claude-haiku-5-5"}, "model_changed", "model"),
    ],
)
def test_a_session_keeps_its_settings(
    tmp_path: Path, fields: dict[str, Any], reason: str, place: str
) -> None:
    """While its cache can be warm; of what may be several conversations it cannot be said."""
    declared = bundles.make()
    models = (bundles.MODEL, "claude-haiku-5-5")
    bench = Bench(tmp_path, replace(declared, route=replace(declared.route, models=models)))
    bench.open(session="s")
    with pytest.raises(RefusalError) as refused:
        bench.open(session="s", **fields)
    assert (refused.value.reason, refused.value.place) == (reason, place)
    bench.open(session="s")
    bench.open(session="another", **fields)
    bench.open()
    bench.open(**fields)
    bench.now += 301
    bench.open(session="s", **fields)


@pytest.mark.parametrize(
    ("session", "second", "told"),
    [
        ("s", {}, "extended"),
        ("s", {"messages": []}, "history_shortened"),
        ("s", {"system": "Be brief."}, "system_changed"),
        ("", {"messages": []}, "unnamed"),
    ],
)
def test_a_conversation_that_does_not_extend_itself_is_told(
    bench: Bench, session: str, second: dict[str, Any], told: str
) -> None:
    """In a metric by its kind; in a header of the answer where that was asked for."""
    first = bench.open(session=session, ask=True)
    assert first.headers["headwater-conversation"] == ("began" if session else "unnamed")
    assert bench.open(session=session, ask=True, **second).headers["headwater-conversation"] == told
    assert "headwater-conversation" not in bench.open(session=session, **second).headers
    counted = {
        labels["reason"]: value
        for labels, value in bench.samples("headwater_conversation_breaks_total")
    }
    assert counted == ({told: 1} if told.endswith(("changed", "shortened")) else {})


def test_a_conversation_that_was_silent_for_the_ttl_begins_anew(bench: Bench) -> None:
    """Nothing of it is cached any more."""
    bench.open(session="s")
    bench.now += 301
    answered = bench.open(session="s", ask=True, messages=[])
    assert answered.headers["headwater-conversation"] == "began"


def test_observe_splices_what_keeps_to_the_contract(tmp_path: Path) -> None:
    """Observing is for those who break it."""
    assert Bench(tmp_path, bundles.observing(bundles.make())).open().revision is not None


def test_without_a_bundle_nothing_is_sent(tmp_path: Path) -> None:
    """Fail closed, counted, with the reason."""
    bench = Bench(tmp_path / "empty", None)
    with pytest.raises(UnservedError, match="No such file"):
        bench.open()
    assert bench.outcomes() == {("no_bundle", "false"): 1}
    ((labels, violations),) = bench.samples("headwater_contract_violations_total")
    assert (labels["reason"], violations) == ("no_bundle", 1)
    ((_, verified),) = bench.samples("headwater_bundle_verified")
    assert verified == 0


async def test_counting_tokens_is_no_evidence(bench: Bench) -> None:
    """It touches no cache: it neither waits, nor warms, nor counts."""
    leader = bench.open()
    await leader.enter()
    exchange = bench.open(counted=False)
    await exchange.enter()
    exchange.began(200, "application/json")
    exchange.chunk(b'{"input_tokens": 5}')
    exchange.end(Ending.COMPLETE)
    assert bench.outcomes() == {}
    assert b"steady" not in b"".join(exchange.parts)
    assert bundles.TEXT.split()[0].encode() in b"".join(exchange.parts)


async def test_state_is_exposed(bench: Bench) -> None:
    """Bundle, lanes by fingerprint in Unix time, and the process's start for rates."""
    await answered(bench, usage(0, 100))
    ((labels, _),) = bench.samples("headwater_bundle_info")
    assert (labels["role"], labels["digest12"]) == ("stable", LABELS["digest12"])
    ((_, epoch),) = bench.samples("headwater_bundle_epoch")
    assert epoch == 1
    ((labels, at),) = bench.samples("headwater_lane_last_used_timestamp_seconds")
    assert at == pytest.approx(1000 + 1e9)
    assert len(labels["credential"]) == 12
    assert bench.samples("process_start_time_seconds")
    assert b"sk-secret" not in bench.metrics.exposition()
