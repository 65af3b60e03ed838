"""`headwater cleanup`: what would outlive the operator and hold something up."""

import click

from headwater.cli._cluster import ask
from headwater.cluster import PROMPT_PREFIX, ConflictError, NotFoundError, Object
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.controller.deletion import FINALIZER


@click.command(name="cleanup")
@click.option(
    "-n",
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAME",
    help="Look at the prefixes of this namespace alone; repeat for more.",
)
def command(namespaces: tuple[str, ...]) -> None:
    """Take the operator's finalizer off every prefix, so that each can be deleted without it.

    For after the operator has gone: one that runs puts it on again.
    """

    async def work(cluster: KubernetesCluster) -> int:
        freed = 0
        for namespace in namespaces or (None,):
            try:
                held = [
                    body
                    async for body in cluster.list(PROMPT_PREFIX, namespace)
                    if FINALIZER in body["metadata"].get("finalizers", ())
                ]
            except NotFoundError:  # the kind is gone, and every prefix with it
                continue
            for body in held:
                await _free(cluster, body)
            freed += len(held)
        return freed

    click.echo(f"took the finalizer off {ask(None, work)} prefixes.")


async def _free(cluster: KubernetesCluster, body: Object) -> None:
    while FINALIZER in body["metadata"].get("finalizers", ()):
        metadata = body["metadata"]
        place = (metadata["namespace"], metadata["name"])
        try:
            await cluster.set_finalizers(
                PROMPT_PREFIX,
                *place,
                [name for name in metadata["finalizers"] if name != FINALIZER],
                resource_version=int(metadata["resourceVersion"]),
            )
        except NotFoundError:
            return
        except ConflictError:
            try:
                body = await cluster.get(PROMPT_PREFIX, *place)
            except NotFoundError:
                return
        else:
            return
