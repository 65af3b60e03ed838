"""A warmer on a real API server, its job's own command, and the caches that it warms."""

import base64
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic.types import Message

from headwater.contract import bundle
from headwater.contract.assembly import Request, prepare, splice
from headwater.contract.bundle import Bundle
from headwater.contract.content import canonical_bytes, content
from headwater.contract.digest import Digest
from headwater.contract.route import Revision, Route, Weight, credential_fingerprint
from headwater.providers.usage import Usage
from headwater.resources.warmer import CacheWarmer
from headwater.warmer.cronjob import NextRun, WarmedPrefix, cronjob
from headwater.warmer.report import decode
from tests.cluster.control_plane import Cluster
from tests.cluster.forks import Forked
from tests.cluster.node import run_cronjob_now
from tests.cluster.waiting import wait_until

CRDS = Path(__file__).parents[2] / "crds"
KEY = "sk-test-0123456789"
MODELS = ("claude-opus-4-8", "claude-sonnet-4-6")
BUNDLE = "headwater.ai.org-core"


def contract(text: str) -> bytes:
    # Python's json writes 1e-07 where RFC 8785 writes 1e-7: bytes that only a splice keeps.
    schema = {"type": "object", "properties": {"share": {"type": "number", "minimum": 1e-7}}}
    return canonical_bytes(
        content(
            tools=[{"name": "find", "description": "Finds.", "input_schema": schema}],
            system=[{"text": text * 400}],
            ttl="5m",
        )
    )


V1 = contract("Rules of the house, one after the other.\r\n")
V2 = contract("New rules of the house: \u2028 é 🌊.\n")


def a_bundle() -> Bundle:
    stable, candidate = Revision("v1", Digest.of(V1)), Revision("v2", Digest.of(V2))
    route = Route(
        namespace="ai",
        prefix="org-core",
        epoch=1,
        salt="",
        stable=stable,
        models=MODELS,
        ttl="5m",
        candidate=candidate,
        weight=Weight.percent(5),
    )
    return Bundle(route, {stable.digest: V1, candidate.digest: V2})


@pytest.fixture
def restricted(control_plane: Cluster, namespace: str) -> str:
    """A namespace that refuses pods with any privilege, and warns of what could make one."""
    level = "pod-security.kubernetes.io"
    labels = [f"{level}/enforce=restricted", f"{level}/warn=restricted"]
    control_plane.kubectl("label", "namespace", namespace, *labels)
    return namespace


@pytest.fixture
def warmer(control_plane: Cluster, restricted: str) -> dict[str, Any]:
    """A CacheWarmer as the API server stored it, with the Secret and the bundle it needs."""
    control_plane.kubectl(
        *("apply", "--server-side", "--field-manager=make-generate"),
        *("-f", str(CRDS / "headwater.dev_cachewarmers.yaml")),
    )
    control_plane.kubectl(
        "wait", "--for=condition=Established", "crd/cachewarmers.headwater.dev", "--timeout=120s"
    )
    files = bundle.encode(a_bundle())
    objects: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "anthropic-prod"},
            "stringData": {"token": f"{KEY}\n"},
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": BUNDLE},
            "binaryData": {name: base64.b64encode(data).decode() for name, data in files.items()},
        },
        {
            "apiVersion": "headwater.dev/v1alpha1",
            "kind": "CacheWarmer",
            "metadata": {"name": "keep"},
            "spec": {
                "prefixRef": {"name": "org-core"},
                "credentials": [
                    {"name": "prod", "secretRef": {"name": "anthropic-prod", "key": "token"}}
                ],
                # The tests run it when they want it.
                "suspend": True,
            },
        },
    ]
    for manifest in objects:
        control_plane.kubectl("apply", "-n", restricted, "-f", "-", input=json.dumps(manifest))
    return control_plane.get("cachewarmer", "keep", "-n", restricted)


def desired(warmer: dict[str, Any], provider_url: str | None = None) -> dict[str, Any]:
    return cronjob(
        CacheWarmer.model_validate(warmer),
        WarmedPrefix("5m", MODELS),
        NextRun(),
        image="example.com/headwater:test",
        bundle_config_map=BUNDLE,
        provider_url=provider_url,
    )


def apply(cluster: Cluster, manifest: dict[str, Any], *arguments: str) -> str:
    """Apply on the server's side under our field manager; what kubectl had to say."""
    done = cluster.kubectl(
        *("apply", "--server-side", "--field-manager=headwater", *arguments, "-f", "-"),
        input=json.dumps(manifest),
    )
    return done.stdout + done.stderr


def test_the_cronjob_is_taken_without_a_warning(
    control_plane: Cluster, warmer: dict[str, Any]
) -> None:
    """Applied twice it is the same object, owned by the warmer, with every field we wrote."""
    first = apply(control_plane, desired(warmer))
    assert first == "cronjob.batch/headwater-keep serverside-applied\n"  # so no warning
    namespace = warmer["metadata"]["namespace"]
    stored = control_plane.get("cronjob", "headwater-keep", "-n", namespace)
    apply(control_plane, desired(warmer))
    again = control_plane.get("cronjob", "headwater-keep", "-n", namespace)
    assert again["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"]
    assert stored["metadata"]["ownerReferences"][0]["uid"] == warmer["metadata"]["uid"]


def test_its_pod_is_admitted_where_pods_are_restricted(
    control_plane: Cluster, warmer: dict[str, Any]
) -> None:
    """The `restricted` Pod Security Standard has nothing to object to, and would else refuse."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "warm", "namespace": warmer["metadata"]["namespace"]},
        "spec": desired(warmer)["spec"]["jobTemplate"]["spec"]["template"]["spec"],
    }
    said = apply(control_plane, pod, "--dry-run=server")
    assert said == "pod/warm serverside-applied (server dry run)\n"
    del pod["spec"]["securityContext"]
    with pytest.raises(AssertionError, match='violates PodSecurity "restricted'):
        apply(control_plane, pod, "--dry-run=server")


def test_a_secret_that_is_gone_is_reported_by_the_job(
    control_plane: Cluster, warmer: dict[str, Any]
) -> None:
    """The pod starts all the same, sends nothing, and its termination message says what to do."""
    warmer["spec"]["credentials"][0]["secretRef"]["name"] = "no-such-secret"
    apply(control_plane, desired(warmer))
    namespace = warmer["metadata"]["namespace"]
    ended = run_cronjob_now(control_plane, namespace, "headwater-keep")
    assert ended.exit_code == 1, ended.log
    lanes = decode(termination_message(control_plane, namespace, ended.pod)).lanes
    assert len(lanes) == 4  # two models, stable and candidate
    for lane in lanes:
        assert (lane.state, lane.fingerprint) == ("Failed", "")
        assert "check that the Secret and the key that secretRef names exist" in lane.message


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[str]:
    """The URL of a simulator of its own: its caches are cold."""
    log = tmp_path / "simulator.log"
    with (
        log.open("wb") as output,
        Forked(("simulator", "--port=0"), os.environ, stdout=output) as process,
    ):
        wait_until(
            lambda: "listening on " in log.read_text() or process.poll() is not None,
            timeout=30,
            message="the simulator says where it listens",
        )
        found = re.search(r"listening on (\S+)", log.read_text())
        assert found, log.read_text()
        yield found[1]


async def test_the_job_writes_once_and_then_everybody_reads(
    control_plane: Cluster, warmer: dict[str, Any], simulator: str
) -> None:
    """A first run writes every lane, a second one reads it, and so does a consumer's request."""
    apply(control_plane, desired(warmer, simulator))
    namespace = warmer["metadata"]["namespace"]
    reports = []
    for _ in range(2):
        ended = run_cronjob_now(control_plane, namespace, "headwater-keep")
        assert ended.exit_code == 0, ended.log
        assert KEY not in ended.log
        message = termination_message(control_plane, namespace, ended.pod)
        assert KEY not in message
        reports.append(decode(message))
    written: dict[tuple[str, Digest], int] = {}
    for first, second in zip(reports[0].lanes, reports[1].lanes, strict=True):
        assert first.fingerprint == credential_fingerprint(KEY)
        assert first.usage is not None
        assert second.usage is not None
        assert first.usage.cache_write_5m > 0
        whole = first.usage.cache_read + first.usage.cache_write_5m
        assert second.usage == Usage(uncached=first.usage.uncached, cache_read=whole)
        written[first.model, first.digest] = whole
    assert set(written) == {(model, Digest.of(data)) for model in MODELS for data in (V1, V2)}

    async with anthropic.AsyncAnthropic(api_key=KEY, base_url=simulator) as client:
        for (model, digest), tokens in written.items():
            question = {
                "model": model,
                "max_tokens": 16,
                "system": "You help the billing team.",
                "messages": [{"role": "user", "content": "What is open?"}],
            }
            request = Request.read(json.dumps(question).encode())
            spliced = splice(request, prepare(a_bundle().contracts[digest]), MODELS)
            answer = await client.post(
                "/v1/messages",
                cast_to=Message,
                content=spliced.body,
                options={"headers": {"Content-Type": "application/json"}},
            )
            assert answer.usage.cache_read_input_tokens == tokens
            assert answer.usage.cache_creation_input_tokens == 0


def termination_message(cluster: Cluster, namespace: str, pod: str) -> str:
    status = cluster.get("pod", pod, "-n", namespace)["status"]
    message: str = status["containerStatuses"][0]["state"]["terminated"]["message"]
    return message
