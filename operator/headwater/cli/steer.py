"""`headwater approve`, `pause`, `resume`, `retry`: one decision of a person each.

A decision is a field of the spec. It is set in a manifest, for a commit, or in the cluster by
whoever types; nothing else is touched either way.
"""

import difflib
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypedDict, Unpack

import click

from headwater.cli._cluster import ask, cluster_options, find
from headwater.cli._edit import Value
from headwater.cli._manifests import STDIN, named, read, with_field
from headwater.cli._yaml import dump
from headwater.cluster import PROMPT_PREFIX, ConflictError, Object
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.contract.digest import Digest
from headwater.contract.errors import HeadwaterError

FIELD_MANAGER: Final = "headwater-cli"
"""Who set a field, in `metadata.managedFields`: a person, by this command line."""

_ATTEMPTS: Final = 5
"""The status changes while a person decides; the decision is made again on what is there then."""

_WHERE: Final = """say where:

  -f FILE    edits the manifest for a commit: the way where Git is applied to the cluster
  --cluster  changes the PromptPrefix in the cluster at once, with your permissions"""


class NothingToDoError(HeadwaterError):
    """What was asked for is so already, or would have no effect."""


class Where(TypedDict):
    """The options that every decision takes."""

    filename: str | None
    in_cluster: bool
    namespace: str | None
    context: str | None
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Change:
    """Fields of the spec, as a merge patch has them, and what to tell whoever set them."""

    spec: Object
    told: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Decision:
    """One field of the spec that gets a value, and what that means."""

    path: tuple[str, ...]
    value: Value
    meaning: str

    def sentence(self, spec: Mapping[str, Any]) -> str:
        """`spec.suspend is true (was false): …`."""
        old = _at(spec, *self.path)
        was = "" if old is None else f" (was {json.dumps(old)})"
        value = self.value if isinstance(self.value, str) else json.dumps(self.value)
        return f"spec.{'.'.join(self.path)} is {value}{was}: {self.meaning}."

    @property
    def patch(self) -> Object:
        """The field as a merge patch of the spec."""
        patch: Any = self.value
        for name in reversed(self.path):
            patch = {name: patch}
        return dict(patch)


_Decide = Callable[[Object], _Decision]


def where_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `Where` holds, as options."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Print the change and make none."),
        cluster_options,
        click.option("--cluster", "in_cluster", is_flag=True, help="Change it in the cluster."),
        click.option("-f", "--filename", metavar="FILE", help="Change it in this manifest."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("name")
@click.option("--digest", help="The bytes that you mean.  [default: those that are declared]")
@where_options
def approve(name: str, digest: str | None, **where: Unpack[Where]) -> None:
    """Approve the declared version of a prefix: exactly its bytes, by their digest."""

    def decide(body: Object) -> _Decision:
        spec, version = body["spec"], body["spec"].get("version")
        if "digest" not in spec:
            raise HeadwaterError(
                f"{name} declares no digest: `headwater digest --write -f FILE` puts it in."
            )
        declared = Digest(str(spec["digest"]))
        if digest is not None and Digest(digest) != declared:
            raise HeadwaterError(
                f"{name} declares {version} as {declared}, not {digest}: an approval of other"
                " bytes has no effect."
            )
        if _at(spec, "rollout", "approvedDigest") == declared:
            raise NothingToDoError(f"{version} of {name} is approved already.")
        if digest_in(body, "stable") == declared:
            raise NothingToDoError(f"{version} of {name} is stable: nothing is to be approved.")
        return _Decision(("rollout", "approvedDigest"), declared, f"{version} is approved")

    _set(name, decide, where)


@click.command()
@click.argument("name")
@where_options
def pause(name: str, **where: Unpack[Where]) -> None:
    """Make a prefix stand still. A candidate that fails still goes back."""

    def decide(body: Object) -> _Decision:
        if body["spec"].get("suspend"):
            raise NothingToDoError(f"{name} stands still already.")
        return _Decision(("suspend",), True, "it stands still until `headwater resume`")  # noqa: FBT003 - a value

    _set(name, decide, where)


@click.command()
@click.argument("name")
@where_options
def resume(name: str, **where: Unpack[Where]) -> None:
    """Let a prefix that stands still go on."""

    def decide(body: Object) -> _Decision:
        if not body["spec"].get("suspend"):
            raise NothingToDoError(f"{name} does not stand still: spec.suspend is not true.")
        return _Decision(("suspend",), False, "it goes on")  # noqa: FBT003 - a value

    _set(name, decide, where)


@click.command()
@click.argument("name")
@where_options
def retry(name: str, **where: Unpack[Where]) -> None:
    """Try the declared version again after it went back, or give it time again where it is held."""

    def decide(body: Object) -> _Decision:
        spec, stable = body["spec"], digest_in(body, "stable")
        version, number = spec.get("version"), spec.get("retry") or 0
        if stable is not None and stable == spec.get("digest"):
            raise NothingToDoError(f"{version} of {name} is stable: nothing is to be tried again.")
        if not isinstance(number, int):
            raise HeadwaterError(
                f"{name}: spec.retry is {number!r}, and it counts: write a number."
            )
        return _Decision(("retry",), number + 1, f"{version} is tried again")

    _set(name, decide, where)


def digest_in(body: Object, part: str) -> str | None:
    """The digest of a part of the status; None where the status does not have it."""
    digest = _at(body, "status", part, "digest")
    return None if digest is None else str(digest)


def _at(body: Any, *path: str) -> Any:
    """A field, None where it is not there: a manifest may be anything."""
    for name in path:
        body = body.get(name) if isinstance(body, dict) else None
    return body


def _set(name: str, decide: _Decide, where: Where) -> None:
    if (where["filename"] is None) != where["in_cluster"]:
        raise click.UsageError(_WHERE)
    verb = click.get_current_context().info_name
    if where["filename"] is not None:
        try:
            _set_in_file(where["filename"], name, decide, where)
        except HeadwaterError as error:
            raise click.ClickException(str(error)) from error
        return

    async def change(body: Object) -> Change:
        decision = decide(body)
        first = f"{name}: {decision.sentence(body['spec'])}"
        then = (
            f"Where Git is applied to the cluster, commit the same: headwater {verb} {name}"
            f" -f FILE. `headwater get {name} -w` shows what follows."
        )
        return Change(decision.patch, (first, then))

    ask(where["context"], lambda cluster: change_in_cluster(cluster, name, change, where))


def _set_in_file(filename: str, name: str, decide: _Decide, where: Where) -> None:
    if filename == STDIN:
        raise click.UsageError("-f - cannot be written to: give the file.")
    document = named(read([filename], sys.stdin.buffer), name, where["namespace"])
    decision = decide(dict(document.body))
    source = document.source
    text = with_field(document, ("spec", *decision.path), decision.value)
    if where["dry_run"]:
        _print_diff(source.text.splitlines(), text.splitlines(), source.name)
        return
    assert source.path is not None  # noqa: S101 - it is not standard input
    source.path.write_bytes(text.encode())
    click.echo(f"{source.name}: {decision.sentence(document.body['spec'])}")
    verb = click.get_current_context().info_name
    click.echo(f"Commit it: git commit -m '{verb} {name}' {source.name}")


async def change_in_cluster(
    cluster: KubernetesCluster,
    name: str,
    decide: Callable[[Object], Awaitable[Change]],
    where: Where,
) -> None:
    """Change the spec of the very object that was decided on, and tell."""
    attempts = 0
    while True:
        body = await find(cluster, where["namespace"], name)
        change = await decide(body)
        metadata = body["metadata"]
        try:
            after = await cluster.patch(
                PROMPT_PREFIX,
                metadata["namespace"],
                name,
                {
                    "metadata": {"resourceVersion": metadata["resourceVersion"]},
                    "spec": change.spec,
                },
                field_manager=FIELD_MANAGER,
                dry_run=where["dry_run"],
            )
            break
        except ConflictError:
            attempts += 1
            if attempts == _ATTEMPTS:
                raise
    if where["dry_run"]:
        _print_diff(_lines(body["spec"]), _lines(after["spec"]), f"{name} in the cluster")
        return
    for line in change.told:
        click.echo(line)


def _lines(spec: Object) -> list[str]:
    return dump({"spec": spec}).splitlines()


def _print_diff(before: list[str], after: list[str], name: str) -> None:
    for line in difflib.unified_diff(before, after, name, f"{name}, changed", lineterm=""):
        click.echo(line)
