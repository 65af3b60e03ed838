"""`headwater digest`: so that nobody ever computes a digest by hand."""

import json
import sys
from dataclasses import replace

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

    References to ConfigMaps are followed within the manifests given. Where kustomize turns
    prompts into ConfigMaps, give what it builds, and the file that shall get the digest:

        kustomize build DIR | headwater digest -f - --write -f DIR/prompt-prefix.yaml
    """
    if write and check:
        raise click.UsageError("--write and --check exclude each other.")
    try:
        given = list(read(places, sys.stdin.buffer))
        found = prefixes(documents(given))
        if not found:
            raise click.ClickException("none of the manifests is a PromptPrefix.")
        if write:
            if not any(prefix.document.source.path for prefix in found):
                raise click.UsageError(
                    "--write needs a file to write to: give the manifest with a further -f FILE."
                )
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
    edited = [
        replace(source, text=written(source, [p for p in found if p.document.source is source]))
        for source in given
    ]
    # The edit is made by position: read it back before it replaces what a person wrote.
    if any(
        prefix.declared != prefix.digest
        for prefix in prefixes(documents(edited))
        if prefix.document.source.path
    ):
        raise click.ClickException("a digest cannot be written safely: put it in by hand.")
    for old, new in zip(given, edited, strict=True):
        if new.path is not None and new.text != old.text:
            new.path.write_bytes(new.text.encode())
            click.echo(f"wrote {new.name}", err=True)


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
