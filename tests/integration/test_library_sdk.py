"""A wrapped client of the real `anthropic` SDK, an old and a current major version."""

import hashlib
import importlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from headwater.contract.assembly import prepare
from headwater.evidence.ledger import Series
from headwater.evidence.scrape import parse
from tests.cluster.waiting import scaled
from tests.integration.test_simulator_sdk import INTERPRETERS, ROOT, simulator
from tests.unit.sidecar import bundles

pytestmark = pytest.mark.xdist_group("simulator-sdk")  # the client runs once in one worker

CLIENT = Path(__file__).with_name("library_client.py")
SIZE = 3000
"""Words of the contract, so that it is over the model's minimum."""
CONTRACT = prepare(bundles.contract("v1", size=SIZE))
NEEDED = ("msgspec", "rfc8785", "prometheus_client")


@pytest.fixture(scope="module", params=INTERPRETERS)
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the client saw, run once by each interpreter."""
    python = INTERPRETERS[request.param]
    if not python.exists():
        pytest.fail(f"{python.relative_to(ROOT)} is missing: run make install", pytrace=False)
    directory = tmp_path_factory.mktemp("library")
    bundles.write_plain(directory / "bundle", bundles.make(size=SIZE))
    # The interpreter of the old SDK has nothing else: what the library needs is lent to it.
    lent = directory / "lent"
    lent.mkdir()
    for name in NEEDED:
        source = Path(str(importlib.import_module(name).__file__)).parent
        (lent / name).symlink_to(source)
    with simulator() as (_, url):
        done = subprocess.run(
            [python, "-W", "error", CLIENT, url, directory / "bundle"],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT / 'operator'}:{lent}"},
            capture_output=True,
            text=True,
            timeout=scaled(60),
            check=False,
        )
    assert done.returncode == 0, done.stderr
    observed = json.loads(done.stdout)
    assert observed["version"].split(".")[0] == request.param.split()[-1]
    return observed


def figures(usage: dict[str, Any]) -> tuple[int, int]:
    """Tokens read from the cache, and written to it."""
    return usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]


def test_the_contracts_very_bytes_are_sent(seen: dict[str, Any]) -> None:
    """What was hashed is what the provider gets, but for the client that was not wrapped."""
    expected = [
        hashlib.sha256(b"[" + part + b"]").hexdigest() for part in (CONTRACT.tools, CONTRACT.system)
    ]
    found = [
        [request[f"{part}_sha256"] for part in ("tools", "system")]
        for request in seen["sync"]["requests"]
    ]
    nothing = [hashlib.sha256(b"").hexdigest()] * 2
    assert found.count(nothing) == 2  # a message and a count of its tokens
    assert found.count(expected) == len(found) - 2 >= 10


def test_the_first_writes_and_the_next_read(seen: dict[str, Any]) -> None:
    """By `create` and `stream`, sync and async, raw and with other options."""
    for way in ("sync", "async"):
        first, *others = map(figures, seen[way]["usages"])
        assert first[0] == 0 < first[1]
        assert others == [(first[1], 0)] * len(others)
    written = figures(seen["sync"]["usages"][0])[1]
    for usage in (seen["sync"]["with options"], seen["sync"]["raw"][1], seen["sync"]["retried"]):
        assert figures(usage) == (written, 0)
    assert figures(seen["sync"]["plain"]) == (0, 0)


def test_nothing_else_of_the_client_changes(seen: dict[str, Any]) -> None:
    """Type, streams, other endpoints, errors: an application notices the bill alone."""
    sync = seen["sync"]
    assert (sync["is one"], sync["type"]) == (True, "Anthropic")
    assert len(sync["text"].split()) == 12
    assert sync["events"][0] == "message_start"
    assert sync["events"][-1] == "message_stop"
    assert sync["models"] == 2
    assert sync["failures"] == ["OverloadedError", "APIConnectionError", "AuthenticationError"]


def test_tokens_are_counted_with_the_contract(seen: dict[str, Any]) -> None:
    """What `count_tokens` says is what the prompt will have."""
    wrapped, plain = seen["sync"]["tokens"]
    assert wrapped == plain + figures(seen["sync"]["usages"][0])[1]


def test_the_answer_says_which_revision_it_was(seen: dict[str, Any]) -> None:
    """As behind a sidecar, for `with_raw_response`."""
    assert seen["sync"]["raw"][0] == "v1"


def test_a_refusal_reaches_the_caller_and_nothing_is_sent(seen: dict[str, Any]) -> None:
    """It is no connection error, and it is not retried."""
    refused = seen["sync"]["refused"]
    assert refused["class"] == "RefusalError"
    assert refused["text"].startswith("own_tools: tools[0]: ")
    assert seen["sync"]["sent when refused"] == 0
    assert seen["async"]["refused"].startswith("other_model: model: ")


def test_the_metrics_are_the_sidecars(seen: dict[str, Any]) -> None:
    """Every attempt by its outcome, every token once, in the program's own registry."""
    metrics = seen["metrics"]
    outcomes = {
        name.removeprefix("headwater_requests_total "): value
        for name, value in metrics.items()
        if name.startswith("headwater_requests_total")
    }
    assert outcomes == {
        "miss false": 2,  # the first with each key
        "hit true": 9,
        "aborted true": 1,  # the stream that was left
        "refused false": 2,
        "error true": 3,  # 529, and two connections that broke
        "rejected true": 1,  # 401
    }
    written = figures(seen["sync"]["usages"][0])[1]
    read = metrics["headwater_input_tokens_total cache_read"]
    assert metrics["headwater_input_tokens_total cache_write_5m"] == 2 * written
    assert read % written == 0 < read
    assert metrics["headwater_contract_violations_total own_tools"] == 1
    assert metrics["headwater_savings_usd_total"] > metrics["headwater_cost_usd_total"] > 0
    assert metrics["headwater_bundle_verified"] == 1


def test_the_programs_own_metrics_are_evidence(seen: dict[str, Any]) -> None:
    """As the controller reads them from its pod: what is eligible, errors, lanes and their uses."""
    metrics = seen["metrics"]
    sample = parse("pod", seen["exposition"])
    series = Series("org-core", CONTRACT.digest.short, bundles.MODEL)
    found = sample.counts[series]
    assert found.hits == metrics["headwater_requests_total hit true"]
    assert found.errors == metrics["headwater_requests_total error true"]
    assert found.answers == found.hits + metrics["headwater_requests_total miss false"]
    assert {Series(*lane[:3]) for lane in sample.lanes} == {series}
    assert len(sample.lanes) == 2  # two keys


def test_each_request_of_a_batch_is_on_the_contract(seen: dict[str, Any]) -> None:
    """With its very bytes, and reading what a call before wrote; one off it stops the batch."""
    batched = seen["batched"]
    expected = [
        hashlib.sha256(b"[" + part + b"]").hexdigest() for part in (CONTRACT.tools, CONTRACT.system)
    ]
    found = [[each["tools_sha256"], each["system_sha256"]] for each in batched["requests"]]
    assert found == [expected] * 3
    read = figures(batched["alone"])
    assert {name: figures(used) for name, used in batched["results"].items()} == dict.fromkeys(
        "012", read
    )
    assert read[0] > 1000
    assert batched["refused"]["class"] == "RefusalError"


def test_a_batch_of_records_goes_through_the_providers_own(seen: dict[str, Any]) -> None:
    """Its first ones read the contract and write what else they share; later ones read both."""
    batched = seen["batched"]
    assert batched["records"].pop("warming") == "invalid_request_error"
    read, _ = figures(batched["alone"])
    written = {figures(used) for used in batched["records"].values()}
    assert len(written) == 1
    ((found, more),) = written
    assert found == read
    assert more > 0
    assert figures(batched["again"]["one"]) == figures(batched["record alone"]) == (read + more, 0)
    assert batched["again"]["one"]["service_tier"] == "batch"
