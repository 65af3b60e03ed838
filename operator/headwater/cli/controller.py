"""`headwater controller`: the operator's main role."""

import asyncio
import logging
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from pydantic import TypeAdapter, ValidationError

from headwater.contract.errors import HeadwaterError
from headwater.controller.app import Options, run
from headwater.controller.lease import home
from headwater.controller.objects import Key
from headwater.evidence.prometheus import Prometheus
from headwater.resources.schema import Duration

if TYPE_CHECKING:
    from headwater.controller.certificates import Wanted

_DURATION: Final[TypeAdapter[timedelta]] = TypeAdapter(Duration)


class _Place(click.ParamType[Key]):
    """`NAMESPACE/NAME`."""

    name = "namespace/name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Key:
        """See click."""
        namespace, _, name = str(value).partition("/")
        if not namespace or not name or "/" in name:
            self.fail(f"{value!r} is no NAMESPACE/NAME, such as headwater/webhook.", param, ctx)
        return Key(namespace, name)


class _Label(click.ParamType[tuple[str, str]]):
    """A label, like `team=search`."""

    name = "label"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        key, equals, text = str(value).partition("=")
        if not key or not equals:
            self.fail(f"{value!r} is no label: write it as KEY=VALUE.", param, ctx)
        return key, text


class _Duration(click.ParamType[timedelta]):
    """`90s`, `10m`, `1h30m`."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """See click."""
        try:
            duration = _DURATION.validate_python(value)
        except ValidationError:
            self.fail(f"{value!r} is no duration: write it like 90s, 10m or 1h30m.", param, ctx)
        if duration < timedelta(seconds=1):
            self.fail(f"{value!r} is too short: give at least 1s.", param, ctx)
        return duration


@click.command()
@click.option(
    "--image",
    default="headwater:latest",
    show_default=True,
    envvar="HEADWATER_IMAGE",
    help="Image of the warming jobs: normally the controller's own.",
)
@click.option(
    "--scrape-target",
    "targets",
    multiple=True,
    metavar="URL",
    help="Metrics URL of a sidecar outside the cluster; repeat for more. Its counters count for"
    " each prefix of the name that it serves. With --prometheus-url that Prometheus reads it.",
)
@click.option(
    "--scrape-interval",
    type=click.FloatRange(min=0.1),
    default=15.0,
    show_default=True,
    help="Seconds between two readings of the sidecars' counters.",
)
@click.option(
    "--prometheus-url",
    metavar="URL",
    envvar="HEADWATER_PROMETHEUS_URL",
    help="Read the counters from this Prometheus, not from the sidecars, and ask it the queries"
    " of spec.rollout.analysis.",
)
@click.option(
    "--prometheus-token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with a bearer token for it, read anew at each request.",
)
@click.option(
    "--prometheus-ca-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the authorities (PEM) that its certificate is checked against.",
)
@click.option(
    "--provider-url",
    metavar="URL",
    help="Where warming jobs send to, if not to the provider itself.",
)
@click.option(
    "--liveness",
    metavar="URL",
    help="Where to serve the liveness probe, like http://0.0.0.0:8080/healthz.",
)
@click.option(
    "--leader-election/--no-leader-election",
    default=True,
    show_default=True,
    help="Work only while holding a Lease, so that of several controllers one does.",
)
@click.option(
    "--lease-namespace",
    default=home,
    show_default="the pod's own, or default outside of a pod",
    metavar="NAME",
    help="Where the Lease headwater-controller is.",
)
@click.option(
    "--no-pod-annotations",
    is_flag=True,
    help="Leave pods alone: an abort then reaches them with their kubelet's next sync.",
)
@click.option(
    "--watch-namespace",
    "namespaces",
    multiple=True,
    metavar="NAME",
    help="Look after prefixes and consumers in this namespace alone, with Roles there and no"
    " ClusterRole; repeat for more.",
)
@click.option(
    "--consumer-label",
    type=_Label(),
    metavar="KEY=VALUE",
    help="Put bundles only into namespaces that have this label, whatever a prefix selects, like"
    " headwater.dev/inject=enabled.",
)
@click.option(
    "--webhook-certificate-secret",
    type=_Place(),
    metavar="NAMESPACE/NAME",
    help="Make the webhook's certificate and its authority, keep them in this Secret, and renew"
    " them in time.",
)
@click.option(
    "--webhook-service",
    type=_Place(),
    metavar="NAMESPACE/NAME",
    help="The Service that this certificate is for.",
)
@click.option(
    "--webhook-configuration",
    metavar="NAME",
    help="The MutatingWebhookConfiguration and the ValidatingWebhookConfiguration, both of this"
    " name, that are told of the authority.",
)
@click.option(
    "--webhook-ca-lifetime",
    type=_Duration(),
    default="8760h",
    show_default=True,
    metavar="DURATION",
    help="How long an authority is valid; the next one is made when two thirds of that are over.",
)
@click.option(
    "--webhook-certificate-lifetime",
    type=_Duration(),
    default="720h",
    show_default=True,
    metavar="DURATION",
    help="How long a certificate is valid; the next one is made when two thirds of that are over.",
)
@click.option("--verbose", is_flag=True, help="Log what is done, not only what is noteworthy.")
def command(
    image: str,
    targets: tuple[str, ...],
    scrape_interval: float,
    prometheus_url: str | None,
    prometheus_token_file: Path | None,
    prometheus_ca_file: Path | None,
    provider_url: str | None,
    liveness: str | None,
    lease_namespace: str,
    namespaces: tuple[str, ...],
    consumer_label: tuple[str, str] | None,
    webhook_certificate_secret: Key | None,
    webhook_service: Key | None,
    webhook_configuration: str | None,
    webhook_ca_lifetime: timedelta,
    webhook_certificate_lifetime: timedelta,
    *,
    leader_election: bool,
    no_pod_annotations: bool,
    verbose: bool,
) -> None:
    """Run the operator: publish contracts, roll them out, schedule warmers.

    It uses the service account of its pod, or else the current context of the kubeconfig.
    """
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    for noisy in ("kopf", "asyncio", "aiohttp", "kubernetes"):
        logging.getLogger(noisy).setLevel(logging.INFO if verbose else logging.WARNING)
    options = Options(
        image=image,
        targets=targets,
        scrape_interval=timedelta(seconds=scrape_interval),
        prometheus=_prometheus(prometheus_url, prometheus_token_file, prometheus_ca_file),
        provider_url=provider_url,
        liveness=liveness,
        pod_annotations=not no_pod_annotations,
        lease_namespace=lease_namespace if leader_election else None,
        namespaces=tuple(dict.fromkeys(namespaces)),
        consumer_label=consumer_label,
        certificates=_certificates(
            webhook_certificate_secret,
            webhook_service,
            webhook_configuration,
            webhook_ca_lifetime,
            webhook_certificate_lifetime,
        ),
    )
    try:
        # asyncio's own loop: under uvloop 0.23, aiohttp's failed connections leave descriptors
        # behind that are taken for others later (github.com/MagicStack/uvloop/issues/653). An
        # outage of the API server was enough for it.
        asyncio.run(run(options))
    except HeadwaterError as error:
        raise click.ClickException(str(error)) from error


def _certificates(
    secret: Key | None,
    service: Key | None,
    configuration: str | None,
    authority: timedelta,
    certificate: timedelta,
) -> "Wanted | None":
    if secret is None and service is None and configuration is None:
        return None
    if secret is None or service is None or configuration is None:
        raise click.UsageError(
            "--webhook-certificate-secret, --webhook-service and --webhook-configuration belong"
            " together: give all three, or none where another tool makes the certificate"
        )
    if authority < certificate:
        raise click.UsageError(
            "--webhook-ca-lifetime is shorter than --webhook-certificate-lifetime:"
            " no certificate outlives its authority"
        )
    from headwater.controller.certificates import Wanted  # noqa: PLC0415 - eight megabytes

    return Wanted(secret, service, configuration, authority, certificate)


def _prometheus(
    url: str | None, token_file: Path | None, ca_file: Path | None
) -> Prometheus | None:
    if url is None:
        if token_file or ca_file:
            raise click.UsageError(
                "--prometheus-token-file and --prometheus-ca-file need a URL:"
                " give --prometheus-url, too"
            )
        return None
    try:
        return Prometheus(url, token_file, ca_file)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--prometheus-url") from error
