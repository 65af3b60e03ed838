"""What is asked wrongly, and what an answer is when the cluster gives none."""

import http.client
import json
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import scaled, wait_until
from tests.integration.controller.harness import Api
from tests.integration.webhook.authority import Authority, Pair
from tests.integration.webhook.harness import PATIENCE, Replica, Site

pytestmark = pytest.mark.xdist_group("webhook")

POD = {"metadata": {}, "spec": {"containers": [{"name": "app"}]}}


def review(**changes: Any) -> dict[str, Any]:
    request = {
        "uid": "1",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "operation": "CREATE",
        "namespace": "default",
        "object": POD,
        **changes,
    }
    kept = {key: value for key, value in request.items() if value is not None}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": kept}


class Client:
    """One connection, as the API server would keep it."""

    def __init__(self, authority: Authority, port: int) -> None:
        context = ssl.create_default_context(cafile=str(authority.certificate))
        self._connection = http.client.HTTPSConnection(
            "127.0.0.1", port, context=context, timeout=scaled(30)
        )

    def post(
        self, path: str, body: object, content_type: str = "application/json"
    ) -> tuple[int, str]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._connection.request("POST", path, data, {"content-type": content_type})
        answer = self._connection.getresponse()
        return answer.status, answer.read().decode()

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def client(site: Site, replica: Replica) -> Iterator[Client]:
    client = Client(site.authority, replica.port)
    yield client
    client.close()


@pytest.mark.parametrize("path", ["/inject", "/validate"])
@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "no AdmissionReview"),
        (b"{", 400, "no AdmissionReview"),
        (b"\xff", 400, "no AdmissionReview"),
        ({"apiVersion": "v1", "kind": "Pod"}, 400, "a 'Pod' of 'v1'"),
        (b" " * (9 << 20), 413, "at most 8,388,608 bytes"),
    ],
    ids=["empty", "cut", "no text", "no review", "too large"],
)
def test_what_is_no_review_is_an_error_and_no_refusal(
    client: Client, path: str, body: object, status: int, says: str
) -> None:
    """What it means for the object is for the configuration's failurePolicy to say."""
    answer, text = client.post(path, body)
    assert answer == status
    assert says in text


def test_another_content_type_is_not_guessed_at(client: Client) -> None:
    """415, as the API server itself would say."""
    assert client.post("/inject", review(), "text/plain")[0] == 415


@pytest.mark.parametrize(
    ("path", "changes", "says"),
    [
        ("/inject", {"namespace": None}, "the review has no namespace"),
        ("/inject", {"object": None}, "the object is no pod"),
        ("/inject", {"object": {"spec": {"containers": 5}}}, "$.spec.containers"),
        ("/inject", {"object": {"metadata": {"labels": {"a": 1}}, "spec": {}}}, "no pod"),
        ("/validate", {"object": {"spec": {}}}, "this is no PromptPrefix: metadata"),
        ("/validate", {"object": {"metadata": {"name": "x"}, "spec": 5}}, "no PromptPrefix: spec"),
        ("/validate", {"object": []}, "the object cannot be read"),
    ],
)
def test_an_object_that_cannot_be_read_is_an_error(
    client: Client, path: str, changes: dict[str, Any], says: str
) -> None:
    """With the place in it."""
    if path == "/validate":
        changes |= {"kind": {"group": "headwater.dev", "version": "v1", "kind": "PromptPrefix"}}
    status, text = client.post(path, review(**changes))
    assert status == 400
    assert says in text


DEPLOYMENT = {"group": "apps", "version": "v1", "kind": "Deployment"}


@pytest.mark.parametrize(
    ("path", "changes", "says"),
    [
        ("/inject", {"kind": DEPLOYMENT}, "CREATE of Deployment and knows CREATE of Pod"),
        ("/inject", {"operation": "UPDATE"}, "UPDATE of Pod and knows CREATE of Pod"),
        ("/validate", {}, "CREATE of Pod and knows CREATE and UPDATE of PromptPrefix"),
    ],
)
def test_what_it_does_not_know_passes_with_a_word(
    client: Client, replica: Replica, path: str, changes: dict[str, Any], says: str
) -> None:
    """Rules that are too wide must not stop a cluster."""
    count = "headwater_webhook_reviews_total"
    before = replica.counted(count, outcome="misdirected")
    status, text = client.post(path, review(**changes))
    response = json.loads(text)["response"]
    assert (status, response["allowed"], "patch" in response) == (200, True, False)
    assert says in response["warnings"][0]
    assert replica.counted(count, outcome="misdirected") == before + 1


def test_six_megabytes_are_read(client: Client) -> None:
    """The old and the new form of the largest object that the API server takes."""
    pod = {**POD, "metadata": {"annotations": {"note": "x" * (3_000_000)}}}
    status, text = client.post("/inject", review(object=pod, oldObject=pod))
    assert (status, json.loads(text)["response"]["allowed"]) == (200, True)
    pod = {**POD, "metadata": {"annotations": {"note": "x" * (4 << 20)}}}
    assert client.post("/inject", review(object=pod)) == (
        400,
        "an object has at most 3,145,728 bytes\n",
    )


def test_the_probes_are_beside_the_webhooks(replica: Replica) -> None:
    """Without TLS, for the kubelet."""
    assert replica.probe("/healthz") == (200, "ok\n")
    assert replica.probe("/readyz") == (200, "ok\n")


@pytest.mark.slow
def test_without_the_api_server_nothing_is_decided(
    lent_control_plane: ControlPlane, site: Site
) -> None:
    """An error, well before the API server would stop waiting; with its return all is well."""
    log = site.directory / "alone.txt"
    pair = site.authority.issue("alone")
    with (
        Api(lent_control_plane),
        Replica(lent_control_plane.kubeconfig, pair, log, "--drain-seconds", "0") as replica,
    ):
        client = Client(site.authority, replica.port)
        assert client.post("/inject", review())[0] == 200
        lent_control_plane.pause()
        silent = (503, "the API server did not answer in time\n")
        # A process that is stopped may finish what its threads were at.
        wait_until(lambda: client.post("/inject", review()) == silent, PATIENCE, "it is not asked")
        lent_control_plane.resume()
        lent_control_plane.stop_api_server()
        assert client.post("/inject", review())[0] == 503
        lent_control_plane.start_api_server()
        wait_until(lambda: client.post("/inject", review())[0] == 200, PATIENCE, "all is well")
        client.close()
    assert "Traceback" not in replica.said()


def test_a_certificate_that_runs_out_is_served_on_and_said(site: Site, tmp_path: Path) -> None:
    """In the log, in the probe and in a metric, until the files hold the next one."""
    files = Pair(tmp_path / "tls.crt", tmp_path / "tls.key")
    files.become(site.authority.issue("short", lasts=timedelta(seconds=scaled(4))))
    with site.replica("--drain-seconds", "0", pair=files) as replica:
        client = Client(site.authority, replica.port)
        assert client.post("/inject", review())[0] == 200
        wait_until(lambda: "has expired" in replica.probe("/readyz")[1], PATIENCE, "it ran out")
        assert replica.probe("/readyz")[0] == 200
        wait_until(lambda: "the certificate expired" in replica.said(), PATIENCE, "it is said")
        assert client.post("/inject", review())[0] == 200
        expiry = "headwater_webhook_certificate_expiry_timestamp_seconds"
        before = replica.counted(expiry)
        files.become(site.authority.issue("next"))
        wait_until(lambda: replica.counted(expiry) > before, PATIENCE, "the next one is served")
        fresh = Client(site.authority, replica.port)
        assert fresh.post("/inject", review())[0] == 200
        assert client.post("/inject", review())[0] == 200
        fresh.close()
        client.close()
    assert replica.said().count("the certificate expired") == 1


def test_it_ends_with_what_is_in_flight_answered(site: Site) -> None:
    """It serves on for a while, is not ready, and closes each connection with its answer."""
    with site.replica("--drain-seconds", "2") as replica:
        client = Client(site.authority, replica.port)
        assert client.post("/inject", review())[0] == 200
        replica.signal(signal.SIGTERM)
        wait_until(lambda: replica.probe("/readyz")[0] == 503, PATIENCE, "it is not ready")
        for _ in range(3):
            assert client.post("/inject", review())[0] == 200
        assert replica.wait() == 0
        client.close()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Missing option '--tls-cert-file'"),
        (("--provider-url", "api.example"), "no http:// or https:// URL"),
        (("--address", "9443"), "no HOST:PORT"),
        (("--client-name", "a"), "--client-name says nothing without --client-ca-file"),
        (("--client-ca-file", "ca.crt"), "ca.crt holds no authority"),
        (("--tls-cert-file", "no.crt"), "no.crt and no.key are no certificate"),
    ],
)
def test_wrong_arguments_are_explained(arguments: tuple[str, ...], says: str) -> None:
    """One sentence and no traceback."""
    files = ("--tls-cert-file", "no.crt", "--tls-key-file", "no.key") if arguments else ()
    command = [Path(sys.executable).with_name("headwater"), "webhook", *files, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=scaled(60))
    assert done.returncode != 0
    assert says in done.stderr
    assert "Traceback" not in done.stderr
