"""Alerts and dashboard ask for what is really exposed, and each alert says what to do."""

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from charts.dashboard import dashboard
from charts.generate import CHART, ROOT, matrix, objects, rendered
from headwater.contract.reasons import Reason
from headwater.providers.usage import Charge, Statement, Usage
from headwater.sidecar.bundles import BundleFollower
from headwater.sidecar.lanes import Lanes
from headwater.sidecar.metrics import Identity, Outcome
from headwater.sidecar.metrics import Metrics as SidecarMetrics
from headwater.webhook.certificates import Certificate
from headwater.webhook.metrics import Metrics as WebhookMetrics
from tests.cluster import assets
from tests.cluster.waiting import scaled
from tests.integration.webhook.authority import Authority
from tests.unit.controller.bodies import prompt_prefix
from tests.unit.controller.test_metrics import metrics_of
from tests.unit.sidecar import bundles

pytestmark = pytest.mark.xdist_group("chart")  # what is rendered is kept

RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text("utf-8")
OF_THE_TARGET = {"pod"}
"""Labels that a Prometheus adds to what it scrapes."""


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Every series that a sidecar, a webhook and a controller have, with its labels."""
    directory = tmp_path_factory.mktemp("metrics")
    declared = bundles.make("v1", "v2")
    bundles.write_plain(directory, declared)
    follower = BundleFollower(directory)
    follower.poll()
    sidecar = SidecarMetrics(Identity(), follower, Lanes(), time.monotonic)
    revision = declared.route.stable
    series = sidecar.of(revision, bundles.MODEL)
    series.ended(Outcome.HIT, eligible=True)
    series.used(bundles.MODEL, Statement((Charge(Usage(1, 1, 1, 1, 1)),)))
    series.violated(next(iter(Reason)))
    series.uncached_system()
    series.first_byte.add(0.1)
    series.overhead.add(0.1)
    pair = Authority(directory / "authority").issue("webhook")
    webhook = WebhookMetrics(Certificate(pair.certificate, pair.key))
    webhook.reviewed("inject", "injected", 0.1)
    webhook._without_sidecar.labels("refused", "unknown_prefix").inc()
    found: dict[str, set[str]] = {}
    for text in (sidecar.exposition(), webhook.exposition(), metrics_of(prompt_prefix())):
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def groups() -> list[dict[str, Any]]:
    """The groups of the PrometheusRule, as the chart has them before it is rendered."""
    files = sorted((CHART / "files" / "alerts").glob("*.yaml"))
    return [YAML(typ="safe").load(path.read_text()) for path in files]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in groups() for rule in group["rules"]}


def asked() -> dict[str, str]:
    """Every expression, by where it stands."""
    panels = {panel["title"]: panel["targets"][0]["expr"] for panel in dashboard()["panels"]}
    return panels | {name: rule["expr"] for name, rule in alerts().items()}


@pytest.mark.parametrize("where", asked())
def test_what_is_asked_for_is_exposed(where: str, exposed: dict[str, set[str]]) -> None:
    """Each series by its name, each label that is matched or summed by."""
    expression = asked()[where]
    series = re.findall(r"\b(headwater_\w+)(?:\{([^}]*)\})?", expression)
    assert series
    known = set().union(*(exposed.get(name, set()) for name, _ in series)) | OF_THE_TARGET
    for name, matchers in series:
        assert name in exposed
        assert set(re.findall(r"(\w+)(?:=~|!~|!=|=)", matchers)) <= exposed[name]
    for labels in re.findall(r"by \(([^)]*)\)", expression):
        assert set(re.split(r",\s*", labels)) <= known


def test_each_alert_has_its_runbook() -> None:
    """What it means, what to look at, what to do; and no runbook is left over."""
    sections = dict(re.findall(r"(?sm)^## (Headwater\w+)\n(.*?)(?=^## |\Z)", RUNBOOKS))
    assert list(sections) == list(alerts())
    for name, rule in alerts().items():
        link = rule["annotations"]["runbook_url"]
        assert link == f"docs/runbooks.md#{name.lower()}"
        for part in ("**Means.**", "**Look at.**", "**Do.**"):
            assert part in sections[name], name


def test_runbooks_can_be_elsewhere() -> None:
    """The links follow, and nothing else of the rules is changed by being rendered."""
    text = rendered("-f", str(matrix()["monitoring"]))
    body = objects(text.replace("https://wiki.example.com/headwater", "docs/runbooks.md"))
    assert body["PrometheusRule headwater headwater"]["spec"]["groups"] == groups()
    assert text.count("runbook_url: https://wiki.example.com/headwater#") == len(alerts())


def test_without_the_webhook_nobody_misses_it() -> None:
    """Its alerts go with it."""
    options = ("--set=monitoring.rules.enabled=true", "--set=monitoring.whenMissing=Render")
    body = objects(rendered(*options, "--set=webhook.enabled=false"))
    found = body["PrometheusRule headwater headwater"]["spec"]["groups"]
    assert [group["name"] for group in found] == ["headwater-controller", "headwater-sidecars"]


def promtool(*arguments: str) -> None:
    binary = assets.require("prometheus") / "promtool"
    done = subprocess.run(
        [binary, *arguments], capture_output=True, text=True, timeout=scaled(60), check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_stand_when_they_should(tmp_path: Path) -> None:
    """By Prometheus' own rule tests: the first violation, a low hit rate, silence otherwise."""
    (tmp_path / "rules.json").write_text(json.dumps({"groups": groups()}))
    cases = tmp_path / "alerts.yaml"
    cases.write_text(Path(__file__).with_name("alerts.yaml").read_text())
    promtool("check", "rules", str(tmp_path / "rules.json"))
    promtool("test", "rules", str(cases))


def test_prometheus_can_read_the_dashboard(tmp_path: Path) -> None:
    """Each of its questions, with what Grafana puts in."""
    rules = [
        {"record": f"panel{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(
            panel["targets"][0]["expr"] for panel in dashboard()["panels"]
        )
    ]
    path = tmp_path / "rules.json"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(path))


def test_the_dashboard_is_found_by_its_label() -> None:
    """As JSON that Grafana imports."""
    found = objects(rendered("-f", str(matrix()["monitoring"])))
    body = found["ConfigMap headwater headwater-dashboard"]
    assert body["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(body["data"]["headwater.json"]) == dashboard()
