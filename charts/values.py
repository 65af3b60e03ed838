"""What an installation may set: one model, of which the chart's values, schema and table are made.

A field's docstring is what `values.yaml` and the README say about it.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
Namespace = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|[kMGT]i?)?$")] | float
Url = Annotated[str, Field(pattern=r"^(https?://.+)?$")]
Duration = Annotated[str, Field(pattern=r"^([0-9]+(h|m|s))+$")]
Digest = Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64})?$")]
Labels = dict[str, str]
Free = dict[str, Any]
"""An object of Kubernetes' own, which the API server checks."""


class Values(BaseModel):
    """Camel case, and nothing that is not named here."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        validate_default=True,
    )


class Image(Values):
    """Where an image is."""

    repository: Annotated[str, Field(min_length=1)]
    """Its name, with the registry's before it."""
    tag: str = ""
    """Its tag; the chart's `appVersion` where this is empty."""
    digest: Digest = ""
    """`sha256:…`; goes before the tag."""


class RoleImage(Image):
    """The image of the roles that this chart runs."""

    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """As in a pod."""


class Reference(Values):
    """An object by name."""

    name: Name
    """Its name."""


class Crds(Values):
    """The custom resource definitions."""

    enabled: bool = True
    """Install them, and upgrade them with the chart."""
    keep: bool = True
    """Leave them, and with them every prefix, when the chart is uninstalled."""


class Switch(Values):
    """On or off."""

    enabled: bool
    """On or off."""


class IssuerRef(Values):
    """An issuer of cert-manager's."""

    name: str = ""
    """Its name; an authority of the chart's own where this is empty."""
    kind: Literal["Issuer", "ClusterIssuer"] = "Issuer"
    """`Issuer` in this namespace, or `ClusterIssuer`."""
    group: str = "cert-manager.io"
    """The API group of its kind."""


class CertManager(Values):
    """Who makes the webhook's certificate."""

    enabled: bool = False
    """Let cert-manager make it; else the controller does."""
    issuer_ref: IssuerRef = IssuerRef()


class Amounts(Values):
    """Of CPU and memory; none where empty."""

    cpu: Quantity | None = None
    """Of a core, such as `50m`."""
    memory: Quantity | None = None
    """Such as `128Mi`."""


class Resources(Values):
    """What a container asks for, and may have."""

    requests: Amounts
    """What it is scheduled by."""
    limits: Amounts
    """What it may have. None for CPU: throttling delays an abort, and the sidecars' requests."""


class Role(Values):
    """What every role has."""

    resources: Resources
    node_selector: Labels = {}
    """Labels of the nodes that it may run on."""
    tolerations: list[Free] = []
    """As in a pod."""
    affinity: Free = {}
    """As in a pod."""
    topology_spread_constraints: list[Free] = []
    """As in a pod, without `labelSelector`, which the chart puts in."""
    priority_class_name: str = ""
    """Of its pods."""
    pod_labels: Labels = {}
    """More labels of its pods."""
    pod_annotations: Labels = {}
    """More annotations of its pods."""
    network_policy: Switch = Switch(enabled=True)
    """Let nothing in but what it serves; what goes out is left alone."""


_SPREAD: list[Free] = [
    {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
    }
]


class Replicated(Role):
    """A role of which several may run."""

    replicas: Annotated[int, Field(ge=1, le=10)] = 2
    """How many; one less may be taken away at a time."""
    pod_disruption_budget: Switch = Switch(enabled=True)
    """Keep all but one while nodes are drained; only where there is more than one."""
    topology_spread_constraints: list[Free] = _SPREAD
    """As in a pod, without `labelSelector`, which the chart puts in."""


class FileKey(Values):
    """A key of an object in this namespace, mounted as a file."""

    name: str = ""
    """Its name; none where this is empty."""
    key: str
    """The key in it."""


class Prometheus(Values):
    """A Prometheus that evidence is read from, instead of from the sidecars."""

    url: Url = ""
    """Where `/api/v1/query` is found; the sidecars are read where this is empty."""
    token_secret: FileKey = FileKey(key="token")
    """A Secret with a bearer token. The pod mounts it; nothing reads it by the API."""
    ca_config_map: FileKey = FileKey(key="ca.crt")
    """A ConfigMap with the authorities of its certificate (PEM)."""


class Controller(Replicated):
    """`headwater controller`: publishes, rolls out, warms. One works, the others wait."""

    resources: Resources = Resources(
        requests=Amounts(cpu="50m", memory="128Mi"), limits=Amounts(memory="512Mi")
    )
    tell_pods: bool = True
    """Tell running pods of an abort by an annotation, within a second or two. Without, they learn
    of it with their kubelet's next sync, and the controller may not patch pods."""
    consumer_label: Annotated[str, Field(pattern=r"^([^=]+=[^=]*)?$")] = ""
    """A label, such as `headwater.dev/inject=enabled`: bundles go only into namespaces that have
    it, whatever a prefix selects. Where this is empty, a prefix's owner chooses among all
    namespaces but the cluster's own."""
    scrape_interval: Annotated[float, Field(ge=0.1)] = 15
    """Seconds between two readings of the sidecars' counters."""
    prometheus: Prometheus = Prometheus()
    verbose: bool = False
    """Log what is done, not only what is noteworthy."""


class ClientAuth(Values):
    """The API server's certificate for webhooks, where it has one."""

    ca_config_map: FileKey = FileKey(key="ca.crt")
    """A ConfigMap with the authorities that sign it (PEM): whoever has no such certificate is not
    answered. Without one, whoever reaches the port is."""
    names: list[str] = []
    """Common names that the certificate may have; any where this is empty."""


class GuardedPort(Switch):
    """On or off, and who may come."""

    enabled: bool = True
    """Let nothing in but what it serves; what goes out is left alone."""
    sources: list[Free] = []
    """Whence reviews may come: peers as in a NetworkPolicy, such as the API server's `ipBlock`.
    Anywhere where this is empty, because a chart cannot know the API server's address."""


class Webhook(Replicated):
    """`headwater webhook`: puts the sidecar into pods, and checks prefixes."""

    enabled: bool = True
    """Without it, pods mount their bundles and sidecars by hand, and content is checked later."""
    resources: Resources = Resources(
        requests=Amounts(cpu="50m", memory="96Mi"), limits=Amounts(memory="256Mi")
    )
    injection_failure_policy: Literal["Fail", "Ignore"] = "Fail"
    """What becomes of pods in labelled namespaces while no replica answers. `Fail`: they are
    refused, and never run without their contract unnoticed. `Ignore`: they start without."""
    client_auth: ClientAuth = ClientAuth()
    """Who may ask for a review."""
    network_policy: GuardedPort = GuardedPort()
    """Who may reach it."""


class Simulator(Role):
    """`headwater simulator`: answers in the provider's place, for trials and tests."""

    enabled: bool = False
    """Run it, and send everything to it unless `providerUrl` says otherwise."""
    resources: Resources = Resources(
        requests=Amounts(cpu="50m", memory="64Mi"), limits=Amounts(memory="512Mi")
    )
    time_scale: Annotated[float, Field(gt=0)] = 1
    """How many times faster its cache's clock runs."""


class ServiceMonitor(Values):
    """Scraping by the Prometheus operator: controllers, webhooks, and sidecars everywhere."""

    enabled: bool = False
    """Make a ServiceMonitor of the webhooks, and PodMonitors of controllers and sidecars."""
    interval: Duration = "30s"
    """Between two scrapes."""
    labels: Labels = {}
    """By which your Prometheus selects them."""


class Rules(Values):
    """Alerts."""

    enabled: bool = False
    """Make a PrometheusRule."""
    labels: Labels = {}
    """By which your Prometheus selects it."""
    runbook_url: str = "docs/runbooks.md"
    """Where you keep the runbooks; the alert's name is put after it, as `#name`."""


class Dashboard(Values):
    """A Grafana dashboard."""

    enabled: bool = False
    """Make a ConfigMap of it, for Grafana's sidecar to find."""
    labels: Labels = {"grafana_dashboard": "1"}
    """By which that finds it."""


class Monitoring(Values):
    """What watches Headwater."""

    when_missing: Literal["Skip", "Fail", "Render"] = "Fail"
    """What becomes of ServiceMonitor, PodMonitor and PrometheusRule where the cluster has no such
    kinds: left out, an error, or rendered all the same (for a renderer that asks no cluster)."""
    scrape_annotations: bool = False
    """Put `prometheus.io/scrape` and the like on the pods of controllers and webhooks."""
    service_monitor: ServiceMonitor = ServiceMonitor()
    rules: Rules = Rules()
    dashboard: Dashboard = Dashboard()


class Chart(Values):
    """All values."""

    image: RoleImage = RoleImage(repository="headwater")
    """The image of controller, webhook, simulator and warming jobs."""
    sidecar: Image = Image(repository="headwater-sidecar")
    """The image of the sidecars that pods get."""
    image_pull_secrets: list[Reference] = []
    """Secrets in this namespace to pull `image` with; what pulls `sidecar` is the pods' own."""
    fullname_override: Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$")] = ""
    """What the names of all objects begin with; follows from the release's name where empty."""
    watch_namespaces: list[Namespace] = []
    """Look after prefixes and consumers in these namespaces alone, with Roles in them.
    Empty: in all of the cluster, with ClusterRoles."""
    provider_url: Url = ""
    """Where sidecars and warming jobs send to; the provider itself where this is empty."""
    run_as_user: int | None = 65532
    """The user of all containers; null where the platform assigns one, as OpenShift does."""
    crds: Crds = Crds()
    policies: Switch = Switch(enabled=True)
    """ValidatingAdmissionPolicies: who may publish, approve and steer, and what the controller's
    account may not touch. Without them a role alone decides."""
    roles: Switch = Switch(enabled=True)
    """ClusterRoles to bind to people: owner, approver, consumer, auditor."""
    cleanup: Switch = Switch(enabled=True)
    """When the chart is uninstalled, take the finalizers off prefixes, which nobody else would."""
    cert_manager: CertManager = CertManager()
    controller: Controller = Controller()
    webhook: Webhook = Webhook()
    simulator: Simulator = Simulator()
    monitoring: Monitoring = Monitoring()
