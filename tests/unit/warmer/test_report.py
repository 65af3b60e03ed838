"""The report of a run: it always fits, always decodes, and says what it left out."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.contract.digest import Digest
from headwater.providers.usage import Usage
from headwater.warmer.report import (
    MESSAGE_LIMIT,
    SIZE_LIMIT,
    Report,
    ReportError,
    WarmedLane,
    decode,
    encode,
)

AT = datetime(2026, 11, 21, 7, 20, 1, 250_000, tzinfo=UTC)
COUNTS = st.integers(0, 10**9)
MILLISECONDS = st.integers(0, 600_000).map(lambda ms: AT + timedelta(milliseconds=ms))
LANES = st.builds(
    WarmedLane,
    # What the CRD allows: a label, a model of 128 characters, any text for a message.
    credential=st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", fullmatch=True),
    fingerprint=st.sampled_from(["", "0123456789ab"]),
    model=st.text(st.characters(codec="utf-8"), min_size=1, max_size=128),
    digest=st.binary(max_size=1).map(Digest.of),
    at=MILLISECONDS,
    state=st.sampled_from(["Warm", "Cold", "Failed"]),
    usage=st.none() | st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS, st.just(0)),
    message=st.text(st.characters(codec="utf-8"), max_size=MESSAGE_LIMIT),
)
MESSAGES = st.text(st.characters(codec="utf-8"), max_size=2 * MESSAGE_LIMIT)


def lane(**given: object) -> WarmedLane:
    usual = {
        "credential": "prod",
        "fingerprint": "0123456789ab",
        "model": "claude-opus-4-8",
        "digest": Digest.of(b"v1"),
        "at": AT,
        "state": "Warm",
        "usage": Usage(cache_read=5000, uncached=3),
    }
    return msgspec.convert(usual | given, WarmedLane)


@given(st.lists(LANES, max_size=40), MESSAGES)
def test_any_report_fits_and_decodes(lanes: list[WarmedLane], message: str) -> None:
    """At most 4,096 bytes; every lane is either in it or counted as cut."""
    encoded = encode(Report(tuple(lanes), message=message))
    assert len(encoded) <= SIZE_LIMIT
    decoded = decode(encoded)
    assert len(decoded.lanes) + decoded.cut == len(lanes)
    if decoded.cut == 0 and not any(one.message for one in lanes):
        assert set(decoded.lanes) == set(lanes)


def test_a_usual_report_is_whole() -> None:
    """Sixty lanes of four keys, five models and three revisions come back as they were."""
    lanes = tuple(
        lane(credential=f"key-{k}", model=f"claude-model-{m}", digest=Digest.of(b"v%d" % d))
        for k in range(4)
        for m in range(5)
        for d in range(3)
    )
    assert decode(encode(Report(lanes))) == Report(lanes)


def test_equal_sentences_stand_once() -> None:
    """A provider that fails every lane in the same words does not push lanes out."""
    lanes = tuple(
        lane(model=f"claude-model-{m}", state="Failed", usage=None, message="x" * MESSAGE_LIMIT)
        for m in range(60)
    )
    assert decode(encode(Report(lanes))) == Report(lanes)


def test_sentences_go_before_lanes_do() -> None:
    """What does not fit loses its sentences first, and says where they are."""
    lanes = tuple(
        lane(model=f"claude-model-{m}", state="Cold", message=f"{m}" * 200) for m in range(30)
    )
    decoded = decode(encode(Report(lanes)))
    assert (len(decoded.lanes), decoded.cut) == (30, 0)
    assert "pod's log" in decoded.message


def test_warm_lanes_are_cut_before_failed_ones() -> None:
    """Where lanes must go, those that need nobody's attention go first."""
    warm = tuple(lane(model=f"claude-{'long-' * 20}{m}") for m in range(60))
    failed = (lane(state="Failed", usage=None, fingerprint="", message="no key"),)
    decoded = decode(encode(Report(warm + failed)))
    assert decoded.cut == 61 - len(decoded.lanes) > 0
    assert decoded.lanes[0].state == "Failed"


def test_a_newer_release_may_add() -> None:
    """Members that are not known are ignored, at the end of a lane and in the document."""
    document = json.loads(encode(Report((lane(),))))
    document["lanes"][0].append("later")
    document["later"] = {}
    assert decode(json.dumps(document)) == Report((lane(),))


def change(**values: object) -> str:
    return json.dumps(json.loads(encode(Report((lane(),)))) | values)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("", "is no warming report"),
        ("Traceback (most recent call last):", "is no warming report"),
        ("[]", "is no warming report"),
        ("{}", "has format None"),
        (change(format=2), "the same version"),
        (encode(Report((lane(),)))[:100], "is no warming report"),
        (change(models=[]), "is no warming report"),
        (change(lanes=[[0, -1, 0, 0, "Warm", None, None]]), "is no warming report"),
        (change(lanes=[[0, 0, 0, 2**62, "Warm", None, None]]), "is no warming report"),
        (change(digests=["sha256:short"]), "is no warming report"),
        (change(at=None), "no time"),
        (change(at="2026-11-21T07:20:01"), "no time"),
        (b"\xff", "is no warming report"),
    ],
)
def test_what_is_no_report(message: str | bytes, said: str) -> None:
    """A crash's log, another format or a damaged report is one error that says where to look."""
    with pytest.raises(ReportError, match=said):
        decode(message)


def told(tokens: object, **members: object) -> WarmedLane:
    """The lane of a report whose numbers somebody made up."""
    given = {"requests": 1, "nanos": 5, "retry_after": 0} | members
    numbers = [given["requests"], given["nanos"], given["retry_after"]]
    (found,) = decode(change(lanes=[[0, 0, 0, 0, "Warm", tokens, None, *numbers]])).lanes
    return found


@pytest.mark.parametrize(
    ("lane", "named"),
    [
        (told([1, 2, 3, 4], nanos=-5), "cost"),
        (told([1, 2, 3, 4], nanos=10**30), "cost"),
        (told([-1, 2, 3, 4]), "tokens"),
        (told([10**30, 2, 3, 4]), "tokens"),
        (told([1, 2, 3, 4], requests=-1), "number of requests"),
        (told([1, 2, 3, 4], retry_after=-1), "wait"),
        (told([1, 2, 3, 4], retry_after=10**400), "wait"),
    ],
)
def test_a_number_that_cannot_be_is_left_out_and_named(lane: WarmedLane, named: str) -> None:
    """The rest of the report stands: one lane's lie must not hide the others' costs."""
    assert lane.message == f"its {named} cannot be true and is not counted."
    assert lane.usd is None or lane.usd >= 0
    assert lane.requests >= 0
    assert lane.retry_after >= 0
    assert (lane.usage is None) == (named == "tokens") == (lane.state == "Failed")


@pytest.mark.parametrize(("nanos", "usd"), [(-5, "0"), (10**30, "0"), (5, "5E-9")])
def test_what_was_cut_costs_no_less_than_nothing(nanos: int, usd: str) -> None:
    """A negative sum would give a budget back."""
    report = decode(change(cut=3, cut_nanos=nanos))
    assert report.usd == Decimal(usd)
