"""What the chart renders, with no cluster: valid, the same each time, clear when it cannot."""

import json
import re
import tomllib

import pytest
from ruamel.yaml import YAML

from charts.generate import CHART, NAMESPACE, ROOT, helm, matrix, objects, rendered

pytestmark = pytest.mark.xdist_group("chart")  # what is rendered is kept


@pytest.mark.parametrize("case", matrix())
def test_helm_has_no_objection(case: str) -> None:
    """With the strict lint, for every case of the install matrix."""
    done = helm("lint", "--strict", str(CHART), "-f", str(matrix()[case]), check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("case", matrix())
def test_the_same_values_give_the_same_bytes(case: str) -> None:
    """Nothing is minted, drawn or looked up: a GitOps controller sees no change where none is."""
    options = ("-n", NAMESPACE, "-f", str(matrix()[case]))
    again = helm("template", "headwater", str(CHART), *options).stdout
    assert rendered("-f", str(matrix()[case])) == again


WRONG = {
    "a misspelt name": ("webhook.replica=3", "replica"),
    "a misspelt role": ("controler.replicas=3", "controler"),
    "no replica": ("webhook.replicas=0", "/webhook/replicas"),
    "a word for a number": ("controller.replicas=two", "/controller/replicas"),
    "no such failure policy": ("webhook.injectionFailurePolicy=Warn", "injectionFailurePolicy"),
    "a tag in place of a digest": ("image.digest=v1", "/image/digest"),
    "no URL": ("providerUrl=api.example.com", "/providerUrl"),
    "an amount": ("controller.resources.limits.memory=lots", "/controller/resources/limits/memory"),
    "an empty image": ("image.repository=", "/image/repository"),
    "a namespace": ("watchNamespaces={Team_A}", "/watchNamespaces/0"),
}


@pytest.mark.parametrize(("setting", "named"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_named(setting: str, named: str) -> None:
    """The schema is strict: what is misspelt is not silently without effect."""
    done = helm("template", "headwater", str(CHART), "--set", setting, check=False)
    assert done.returncode != 0
    assert named in done.stderr, done.stderr


CONTRADICTIONS = {
    "namespaces and an authority of its own": (
        ("watchNamespaces={team-a}",),
        "set certManager.enabled=true, or webhook.enabled=false",
    ),
    "a token for no Prometheus": (
        ("controller.prometheus.tokenSecret.name=token",),
        "set controller.prometheus.url, too",
    ),
    "names of a certificate that nobody checks": (
        ("webhook.clientAuth.names={api-server}",),
        "set webhook.clientAuth.caConfigMap.name, too",
    ),
    "alerts where nothing knows them": (
        ("monitoring.rules.enabled=true",),
        "This cluster knows no PrometheusRule",
    ),
}


@pytest.mark.parametrize(("settings", "said"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_contradiction_says_what_to_do(settings: tuple[str, ...], said: str) -> None:
    """Before anything is installed."""
    options = [word for setting in settings for word in ("--set", setting)]
    done = helm("template", "headwater", str(CHART), *options, check=False)
    assert done.returncode != 0
    assert said in done.stderr


def test_what_is_missing_can_be_skipped() -> None:
    """Monitoring is no reason not to install."""
    options = ("--set=monitoring.rules.enabled=true", "--set=monitoring.whenMissing=Skip")
    assert rendered(*options) == rendered()


def test_an_older_cluster_is_told_so() -> None:
    """In one sentence, before anything is installed."""
    done = helm("template", "headwater", str(CHART), "--kube-version", "1.29.14", check=False)
    assert done.returncode != 0
    assert ">=1.30.0-0" in done.stderr
    assert "v1.29.14" in done.stderr
    assert rendered("--kube-version", "1.30.0")


def test_the_definitions_stay_when_the_chart_goes() -> None:
    """With every prefix; unless that is not wanted, or they are somebody else's."""

    def policies(*options: str) -> list[str | None]:
        return [
            body["metadata"].get("annotations", {}).get("helm.sh/resource-policy")
            for body in objects(rendered(*options)).values()
            if body["kind"] == "CustomResourceDefinition"
        ]

    assert policies() == ["keep", "keep"]
    assert policies("--set", "crds.keep=false") == [None, None]
    assert policies("--set", "crds.enabled=false") == []


def test_the_definitions_are_those_of_crds() -> None:
    """As a template they come out as they went in, braces in their descriptions included."""
    found = objects(rendered("--set", "crds.keep=false"))
    for path in (ROOT / "crds").glob("*.yaml"):
        body = YAML(typ="safe").load(path.read_text())
        assert found[f"CustomResourceDefinition - {body['metadata']['name']}"] == body


def test_no_configuration_names_an_authority() -> None:
    """`caBundle` has one writer, and it is not the chart: applying it again takes nothing away."""
    for case in matrix().values():
        for body in objects(rendered("-f", str(case))).values():
            for webhook in body.get("webhooks", ()):
                assert "caBundle" not in webhook["clientConfig"]


def test_the_version_is_that_of_the_package() -> None:
    """An image is tagged with it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = YAML(typ="safe").load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == project["version"]


def test_the_schema_lets_helm_s_own_value_through() -> None:
    """Helm puts `global` in where the chart is part of another."""
    assert json.loads((CHART / "values.schema.json").read_text())["additionalProperties"] is False
    rendered("--set", "global.imageRegistry=registry.example.com")


def test_everything_goes_to_the_simulator_where_there_is_one() -> None:
    """Sidecars and warming jobs; an explicit address goes before it."""
    target = "--provider-url=http://headwater-simulator.headwater.svc:8585"
    for options, expected in (
        ((), None),
        (("--set=simulator.enabled=true",), target),
        (
            ("--set=simulator.enabled=true", "--set=providerUrl=https://gateway.example.com"),
            "--provider-url=https://gateway.example.com",
        ),
    ):
        found = objects(rendered(*options))
        for role in ("controller", "webhook"):
            pod = found[f"Deployment headwater headwater-{role}"]["spec"]["template"]["spec"]
            given = [word for word in pod["containers"][0]["args"] if "--provider-url" in word]
            assert given == ([expected] if expected else [])


PAGES = (
    "README.md",
    "charts/README.in.md",
    *(f"docs/{name}.md" for name in ("operations", "runbooks")),
)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_sets_can_be_set(page: str) -> None:
    """Every value that a document names, as the chart's table has it."""
    known = re.findall(r"^\| `([\w.]+)` \|", (CHART / "README.md").read_text(), re.MULTILINE)
    roots = {name.split(".")[0] for name in known if "." in name}
    for root, rest in re.findall(r"(?:--set |`)(\w+)\.([a-zA-Z.]+)\b", (ROOT / page).read_text()):
        if root in roots:
            named = f"{root}.{rest}"
            assert any(name == named or name.startswith(f"{named}.") for name in known), named
