"""`headwater digest`: so that nobody ever computes a digest by hand."""

import itertools
import json

import click

from headwater.cli._manifests import Prefix, Source, documents, prefixes, read, written
from headwater.contract.errors import HeadwaterError


@click.command(name="digest")
@click.option(
    "-f",
    "--filename",
    "places",
    multiple=True,
    required=True,
    metavar="FILE|DIR|-",
    help="A manifest, a folder of them, or - for standard input; may be repeated.",
)
@click.option("--write", is_flag=True, help="Put the digest into the file; change nothing else.")
@click.option("--check", is_flag=True, help="Fail where a declared digest is not the right one.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True
)
def command(places: tuple[str, ...], output: str, *, write: bool, check: bool) -> None:
    """Print the digest of every PromptPrefix in the manifests.

    References to ConfigMaps are followed within the manifests given. For prompts that kustomize
    turns into ConfigMaps:

        kustomize build DIR | headwater digest -f -
    """
    if write and check:
        raise click.UsageError("--write and --check exclude each other.")
    if write and "-" in places:
        raise click.UsageError(
            "--write needs a file to write to: give the manifest with -f FILE"
            " (and, if it refers to ConfigMaps, their manifests with further -f)."
        )
    try:
        given = list(read(places, iter(click.get_binary_stream("stdin"))))
        found = prefixes(documents(given))
        if not found:
            raise click.ClickException("none of the manifests is a PromptPrefix.")
        if write:
            _write(given, found)
    except HeadwaterError as error:
        raise click.ClickException(str(error)) from error
    _print(found, output)
    if check:
        _check(found)


def _print(found: list[Prefix], output: str) -> None:
    if output == "json":
        rows = [
            {
                "namespace": prefix.document.namespace,
                "name": prefix.document.name,
                "version": prefix.version,
                "digest": prefix.digest,
                "declared": prefix.declared,
                "file": prefix.document.source.name,
            }
            for prefix in found
        ]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for prefix in found:
        click.echo(f"{prefix.digest} {prefix.label} {prefix.version}")


def _write(given: list[Source], found: list[Prefix]) -> None:
    for source in given:
        mine = [prefix for prefix in found if prefix.document.source is source]
        text = written(source, mine)
        if source.path is None or text == source.text:
            continue
        # The edit is made by position: read it back before it replaces what a person wrote.
        edited = Source(source.name, source.path, text)
        others = [other for other in given if other is not source]
        again = prefixes(documents(itertools.chain(others, [edited])))
        if any(prefix.declared != prefix.digest for prefix in again if prefix.document.source is edited):
            raise click.ClickException(
                f"{source.name}: the digest cannot be written safely: put it into spec.digest."
            )
        source.path.write_bytes(text.encode())
        click.echo(f"wrote {source.name}", err=True)


def _check(found: list[Prefix]) -> None:
    wrong = [prefix for prefix in found if prefix.declared != prefix.digest]
    for prefix in wrong:
        declared = f"declares {prefix.declared}" if prefix.declared else "declares no digest"
        click.echo(
            f"{prefix.document.source.name}: {prefix.label} {prefix.version} {declared}, and its"
            f" content is {prefix.digest}: `headwater digest --write` corrects the file;"
            " if this version is published, give the changed content a new version.",
            err=True,
        )
    if wrong:
        raise SystemExit(1)
