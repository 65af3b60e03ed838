"""The cluster of the person who types, and what to say when something is not in it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import click
from pydantic import ValidationError

from headwater.cluster import PROMPT_PREFIX, ApiError, NotFoundError, Object
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.contract.errors import HeadwaterError
from headwater.resources import PromptPrefix

T = TypeVar("T")

_NO_KIND: Final = (
    "this cluster has no PromptPrefix: install Headwater's resources first,"
    " `kubectl apply --server-side -f crds/`."
)


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--namespace` and `--context`, as kubectl has them."""
    for option in (
        click.option("--context", help="Another context of the kubeconfig than the current one."),
        click.option("-n", "--namespace", help="[default: that of the context]"),
    ):
        command = option(command)
    return command


def ask(context: str | None, work: Callable[[KubernetesCluster], Awaitable[T]]) -> T:
    """Do some work with the cluster; what goes wrong ends the command with a sentence."""

    async def run() -> T:
        cluster = await KubernetesCluster.connect(context=context)
        try:
            return await work(cluster)
        finally:
            await cluster.close()

    try:
        return asyncio.run(run())
    except HeadwaterError as error:
        raise click.ClickException(str(error)) from error


async def find(cluster: KubernetesCluster, namespace: str | None, name: str) -> Object:
    """A PromptPrefix by its name.

    Raises:
        click.ClickException: there is none; says which there are.
    """
    namespace = namespace or cluster.namespace
    try:
        return await cluster.get(PROMPT_PREFIX, namespace, name)
    except NotFoundError:
        others = ", ".join(body["metadata"]["name"] for body in await every(cluster, namespace))
    message = f"there is no PromptPrefix {name!r} in the namespace {namespace!r}"
    if others:
        raise click.ClickException(f"{message}; there are {others}.")
    try:
        elsewhere = [
            body["metadata"]["namespace"]
            for body in await every(cluster, None)
            if body["metadata"]["name"] == name
        ]
    except ApiError:  # not everybody may look into every namespace
        elsewhere = []
    hint = f": it is in {', '.join(elsewhere)}, try -n {elsewhere[0]}" if elsewhere else ", nor any"
    raise click.ClickException(f"{message}{hint}.")


async def every(cluster: KubernetesCluster, namespace: str | None) -> list[Object]:
    """The PromptPrefixes of a namespace, or of all.

    Raises:
        click.ClickException: the cluster does not know the kind.
    """
    try:
        return [body async for body in cluster.list(PROMPT_PREFIX, namespace)]
    except NotFoundError as error:
        raise click.ClickException(_NO_KIND) from error


def typed(body: Object) -> PromptPrefix:
    """A PromptPrefix of the cluster, by its schema."""
    try:
        return PromptPrefix.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise click.ClickException(
            f"{body['metadata']['name']}: {where}: {first['msg']}. Another release wrote it:"
            " use the command line of that release."
        ) from error
