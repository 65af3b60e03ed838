"""A pod anywhere in the cluster, with nothing but a TCP connection to the webhook's port.

It writes reviews itself, in the API server's place. The answers must tell it nothing that it did
not send, leave no trace that looks like somebody's doing, and not hold up the API server's own.
"""

import json
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from headwater.cluster import CONFIG_MAP, EVENT
from tests.cluster.waiting import scaled
from tests.integration.controller.team import Team, manifest, new_team
from tests.integration.webhook.authority import Authority
from tests.integration.webhook.conftest import replica, site
from tests.integration.webhook.harness import Replica, Site

__all__ = ["replica", "site"]  # fixtures

pytestmark = pytest.mark.xdist_group("webhook")

_CLOSED: Final = r"(?i)certificate.required|unknown.ca|decrypt|reset|EOF|closed connection"
SECRET: Final = "password = hunter2-of-the-victim"


@pytest.fixture
def victim(site: Site) -> Iterator[Team]:
    with new_team(site.api) as team:
        config_map = {"metadata": {"name": "settings", "namespace": team.namespace}}
        site.api.create(CONFIG_MAP, {**config_map, "data": {"settings.ini": SECRET}})
        yield team


def forged(namespace: str, **changes: Any) -> dict[str, Any]:
    """Return a review of a prefix in somebody's namespace that was never declared."""
    reference = {"configMapKeyRef": {"name": "settings", "key": "settings.ini"}}
    source, digest = {"system": [{"textFrom": reference}]}, f"sha256:{'0' * 64}"
    body = manifest(namespace, source=source, digest=digest, **changes)
    return {
        "uid": "1",
        "kind": {"group": "headwater.dev", "version": "v1alpha1", "kind": "PromptPrefix"},
        "operation": "CREATE",
        "namespace": namespace,
        "userInfo": {"username": "the-chief-of-security"},
        "object": body,
    }


def asked(url: str, path: str, request: dict[str, Any], context: ssl.SSLContext) -> tuple[int, str]:
    """Return the status and the text of the answer."""
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    sent = urllib.request.Request(
        url + path, json.dumps(body).encode(), {"content-type": "application/json"}
    )
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(sent, timeout=scaled(30)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.fixture
def trust(site: Site) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(site.authority.certificate))


@pytest.mark.parametrize("pattern", [".+", "hunter", "^password"])
def test_a_config_map_is_read_for_nobody(
    replica: Replica, victim: Team, trust: ssl.SSLContext, pattern: str
) -> None:
    """Neither its text, nor its digest, nor whether it is there; whatever is searched for in it."""
    answers = {
        asked(replica.url, "/validate", forged(place, tenantPattern=[pattern]), trust)
        for place in (victim.namespace, "there-is-no-such-namespace")
    }
    ((status, text),) = answers
    assert status == 200
    assert json.loads(text)["response"] == {"uid": "1", "allowed": True}


def test_nothing_is_left_that_looks_like_somebodys_doing(
    site: Site, replica: Replica, victim: Team, trust: ssl.SSLContext
) -> None:
    """No Event in the victim's namespace, and no line that calls itself an audit's."""
    wanted = {"headwater.dev/prefixes": f"{victim.namespace}/none"}
    metadata = {"name": "api", "ownerReferences": [], "annotations": wanted}
    pod = {"metadata": metadata, "spec": {"containers": []}}
    request = {
        **forged(victim.namespace),
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "object": pod,
    }
    before = len(replica.said())
    assert '"allowed":false' in asked(replica.url, "/inject", request, trust)[1]
    asked(replica.url, "/validate", forged(victim.namespace), trust)
    assert site.api.list(EVENT, victim.namespace) == []
    assert "audit" not in replica.said()[before:]


def test_large_reviews_do_not_hold_up_pods(replica: Replica, trust: ssl.SSLContext) -> None:
    """Six peers send the largest contents there are: a pod is answered while they wait."""
    text = "password: 2026-11-21 " * 40_000
    body = manifest("default", source={"system": [{"text": text}]}, tenantPattern=["[a-z]+"])
    large = {**forged("default"), "object": body, "oldObject": manifest("default")}
    ended = threading.Event()
    judged: list[int] = []

    def judge() -> None:
        while not ended.is_set():
            judged.append(asked(replica.url, "/validate", large, trust)[0])

    pod = {
        "uid": "1",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "operation": "CREATE",
        "namespace": "default",
        "object": {"metadata": {}, "spec": {"containers": [{"name": "app"}]}},
    }
    threads = [threading.Thread(target=judge) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        answered = 0
        while len(judged) < 12:
            assert asked(replica.url, "/inject", pod, trust)[0] == 200
            answered += 1
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert set(judged) == {200}
    assert answered > len(judged), "a pod waits for no content"


def test_with_a_client_certificate_demanded_nobody_else_is_answered(
    site: Site, tmp_path: Path, trust: ssl.SSLContext
) -> None:
    """Neither without one, nor with another authority's, nor with another name."""
    api_server = Authority(tmp_path / "api-server")
    options = ("--client-ca-file", str(api_server.certificate), "--client-name", "webhook-client")
    with site.replica("--drain-seconds", "0", *options) as replica:
        request = forged("default")

        def with_certificate(authority: Authority, name: str) -> tuple[int, str]:
            pair = authority.issue(name, usage="clientAuth")
            context = ssl.create_default_context(cafile=str(site.authority.certificate))
            context.load_cert_chain(pair.certificate, pair.key)
            return asked(replica.url, "/validate", request, context)

        with pytest.raises(OSError, match=_CLOSED):
            asked(replica.url, "/validate", request, trust)
        with pytest.raises(OSError, match=_CLOSED):
            with_certificate(site.authority, "webhook-client")
        assert with_certificate(api_server, "somebody") == (
            403,
            "the client's certificate has none of the names that are expected here\n",
        )
        assert with_certificate(api_server, "webhook-client")[0] == 200
