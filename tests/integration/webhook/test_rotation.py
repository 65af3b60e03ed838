"""The controller makes and renews the certificate of a real webhook that a real API server asks.

The account, the roles and the configurations are those of the chart. The Service leads to this
machine, and a thread does what a kubelet does with the Secret.
"""

import base64
import contextlib
import json
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from headwater.cluster import NAMESPACE, POD
from headwater.cluster.kinds import MUTATING_CONFIGURATION, SECRET, VALIDATING_CONFIGURATION
from tests.cluster.control_plane import ControlPlane
from tests.cluster.volumes import contents, write_atomically
from tests.cluster.waiting import scaled, wait_until
from tests.integration.controller.harness import (
    Api,
    Controller,
    reporting,
)
from tests.integration.controller.team import new_team
from tests.integration.deployed import ACCOUNTS, POLICIES, WEBHOOKS, deploy
from tests.integration.webhook.authority import Pair
from tests.integration.webhook.harness import Replica, as_account

own_controller = pytest.mark.xdist_group("own-controller")

PATIENCE = 30.0
NAME = "headwater-webhook"
HOST = f"{NAME}.headwater.svc"
SECRET_NAME = "headwater-webhook-tls"
FLAGS = (
    f"--webhook-certificate-secret=headwater/{SECRET_NAME}",
    f"--webhook-service=headwater/{NAME}",
    f"--webhook-configuration={NAME}",
)
CONFIGURATIONS = (MUTATING_CONFIGURATION, VALIDATING_CONFIGURATION)


@dataclass
class Installed:
    plane: ControlPlane
    api: Api
    controller: Controller
    directory: Path

    def secret(self) -> dict[str, bytes]:
        """Its files; none before it is there."""
        found = self.api.find(SECRET, "headwater", SECRET_NAME)
        return contents({"kind": "Secret", **found}) if found else {}

    def bundles(self) -> list[bytes]:
        """What both configurations trust."""
        found = [self.api.get(kind, None, NAME)["webhooks"][0] for kind in CONFIGURATIONS]
        return [base64.b64decode(webhook["clientConfig"].get("caBundle", "")) for webhook in found]

    def await_whole(self) -> dict[str, bytes]:
        """Wait until the Secret is whole and both configurations trust its authorities."""

        def whole() -> bool:
            files = self.secret()
            named = set(files) == {"ca.crt", "ca.key", "tls.crt", "tls.key"}
            return named and all(files.values()) and set(self.bundles()) == {files["ca.crt"]}

        wait_until(whole, PATIENCE, "all is as it has to be")
        return self.secret()


@pytest.fixture
def lifetimes() -> tuple[float, float]:
    """Of an authority and of a certificate, in seconds: the last third is there for renewals."""
    return 20, 12


@pytest.fixture
def installed(
    lent_control_plane: ControlPlane, tmp_path: Path, lifetimes: tuple[float, float]
) -> Iterator[Installed]:
    plane = lent_control_plane
    deploy(plane, *ACCOUNTS, *POLICIES, *WEBHOOKS, "Service")
    account = as_account(plane, tmp_path / "kubeconfig", "headwater-controller")
    lease = ("--leader-election", "--lease-namespace=headwater")
    authority, certificate = (f"{math.ceil(scaled(seconds))}s" for seconds in lifetimes)
    short = (
        f"--webhook-ca-lifetime={authority}",
        f"--webhook-certificate-lifetime={certificate}",
    )
    controller = Controller(account.kubeconfig, tmp_path / "log", *lease, *FLAGS, *short)
    with Api(plane) as api, controller, reporting(controller):
        yield Installed(plane, api, controller, tmp_path)


@contextlib.contextmanager
def meanwhile(work: Callable[[], object], pause: float) -> Iterator[list[str]]:
    """Do something over and over in a thread; what went wrong."""
    ended, problems = threading.Event(), list[str]()

    def loop() -> None:
        while not ended.is_set():
            try:
                work()
            except Exception as error:  # noqa: BLE001 - the test says what may go wrong
                problems.append(f"{time.monotonic():.1f}: {error}")
            ended.wait(pause)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield problems
    finally:
        ended.set()
        thread.join()


def lead_to(installed: Installed, port: int) -> None:
    """The Service leads to a port of this machine, and only the injection is asked."""
    installed.plane.kubectl("delete", "service", NAME, "-n", "headwater")
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": "headwater"},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    }
    installed.plane.kubectl("apply", "-f", "-", input=json.dumps(service))
    change = [{"op": "add", "path": "/webhooks/0/clientConfig/service/port", "value": port}]
    for kind in CONFIGURATIONS:
        installed.plane.kubectl("patch", kind.plural, NAME, "--type=json", "-p", json.dumps(change))


def admit(api: Api, namespace: str) -> bool:
    """A pod is injected; nothing of it is kept."""
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "p-"}}
    body["spec"] = {"containers": [{"name": "app", "image": "app:1"}]}
    text = api.request("POST", POD.path(namespace), body, dryRun="All")
    assert json.loads(text)["spec"].get("initContainers"), "the webhook was not asked"
    return True


def served(port: int, bundle: bytes) -> x509.Certificate:
    """The certificate that a new connection gets; it has to be trusted for the Service."""
    context = ssl.create_default_context(cadata=bundle.decode())
    with (
        socket.create_connection(("127.0.0.1", port), timeout=scaled(30)) as raw,
        context.wrap_socket(raw, server_hostname=HOST) as connection,
    ):
        der = connection.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


@contextlib.contextmanager
def webhook(installed: Installed) -> Iterator[Replica]:
    """A replica whose files are what the Secret holds, a moment ago."""
    directory = installed.directory / "tls"
    directory.mkdir()
    pair = Pair(directory / "tls.crt", directory / "tls.key")
    account = as_account(installed.plane, installed.directory / "webhook-kubeconfig")
    log = installed.directory / "webhook.log"

    def mount() -> None:
        write_atomically(directory, installed.secret())

    mount()
    with meanwhile(mount, 0.2), Replica(account.kubeconfig, pair, log) as replica:
        lead_to(installed, replica.port)
        yield replica


@pytest.mark.slow
def test_no_admission_fails_while_all_is_renewed(installed: Installed) -> None:
    """Neither with a certificate's end nor with an authority's, and without a restart."""
    api = installed.api
    installed.await_whole()
    certificates = set[int]()
    with webhook(installed) as replica, new_team(api) as team:
        namespace = team.consumer("shop")
        team.publish()
        labels = {"headwater.dev/inject": "enabled"}
        annotations = {"headwater.dev/prefixes": f"{team.namespace}/house"}
        metadata = {"metadata": {"labels": labels, "annotations": annotations}}
        api.patch(NAMESPACE, None, namespace, metadata)

        def connect() -> x509.Certificate:
            found = [served(replica.port, bundle) for bundle in installed.bundles()]
            certificates.update(certificate.serial_number for certificate in found)
            return found[0]

        wait_until(lambda: admit(api, namespace), PATIENCE, "pods are injected")
        first = connect().issuer
        with (
            meanwhile(lambda: admit(api, namespace), 0.05) as refused,
            meanwhile(connect, 0.2) as untrusted,
        ):
            patience = scaled(60)
            wait_until(lambda: connect().issuer != first, patience, "another authority's is served")
            after = len(certificates) + 1
            wait_until(lambda: len(certificates) >= after, patience, "and its next one")
        assert (refused, untrusted) == ([], [])
        assert len(certificates) >= 3
        assert replica.running
        assert "Traceback" not in replica.said()


@own_controller
def test_what_somebody_changes_is_put_right(installed: Installed) -> None:
    """With the same authority: what replicas serve stays trusted."""
    api, before = installed.api, installed.await_whole()["ca.crt"]
    path = ("headwater", SECRET_NAME)

    def edited(data: dict[str, str | None]) -> Callable[[], object]:
        return lambda: api.patch(SECRET, *path, {"data": data})

    spoil = [
        lambda: api.delete(SECRET, *path),
        edited({"tls.key": ""}),
        edited({"ca.crt": base64.b64encode(b"mine").decode(), "ca.key": None}),
        edited({"other": "bWluZQ=="}),
        *(
            lambda kind=kind: installed.plane.kubectl(
                *("patch", kind.plural, NAME, "--type=json", "-p"),
                '[{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": "Cg=="}]',
                check=False,
            )
            for kind in CONFIGURATIONS
        ),
    ]
    for change in spoil:
        change()
        assert before in installed.await_whole()["ca.crt"]


@own_controller
def test_configurations_that_come_later_are_told(installed: Installed) -> None:
    """It says that it waits; and a former controller's authority is used again."""
    before = installed.await_whole()
    installed.controller.stop()
    for kind in CONFIGURATIONS:
        installed.api.delete(kind, None, NAME)
    installed.controller.start()
    there = "there is no MutatingWebhookConfiguration headwater-webhook yet: waits for it"
    wait_until(lambda: there in installed.controller.said(), PATIENCE, "it waits")
    deploy(installed.plane, *WEBHOOKS)
    assert before["ca.crt"] in installed.await_whole()["ca.crt"]


@pytest.mark.slow
@pytest.mark.parametrize("lifetimes", [(8, 6)], ids=["short"])
def test_what_has_expired_while_nobody_was_there_is_made_anew(installed: Installed) -> None:
    """At once: there is nobody left who would trust it."""
    installed.await_whole()
    installed.controller.stop()
    before = installed.secret()
    authorities = x509.load_pem_x509_certificates(before["ca.crt"])
    wait_until(lambda: all(map(expired, authorities)), scaled(60), "it expires")
    installed.controller.start()
    wait_until(lambda: installed.secret() != before, PATIENCE, "it is made anew")
    after = installed.await_whole()
    assert before["ca.crt"] not in after["ca.crt"]
    assert all(not expired(found) for found in x509.load_pem_x509_certificates(after["tls.crt"]))


def expired(certificate: x509.Certificate) -> bool:
    return certificate.not_valid_after_utc <= datetime.now(UTC)


@own_controller
def test_it_may_read_no_other_secret(installed: Installed) -> None:
    """Not in its own namespace, and none by a list."""
    account = "--as=system:serviceaccount:headwater:headwater-controller"
    for request in (f"secrets/{SECRET_NAME}x", "secrets", "secrets -A"):
        verb = "get" if "/" in request else "list"
        asked = installed.plane.kubectl(
            *("auth", "can-i", verb, *request.split(), "-n", "headwater", account), check=False
        )
        assert asked.stdout.strip() == "no", request
