"""The manifests that a person gives with `-f`: files, folders, standard input.

Reads them, finds the PromptPrefixes and the ConfigMaps that they refer to, and writes a digest
into a file so that not one other byte of it changes. It asks no cluster.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from headwater.cli._yaml import ManifestError, compose, member, value_of
from headwater.contract.content import digest_of
from headwater.contract.digest import Digest
from headwater.contract.errors import HeadwaterError
from headwater.resources.prefix import ContentSource
from headwater.resources.resolve import (
    ConfigMapData,
    MissingReferenceError,
    config_map_data,
    resolve,
)
from headwater.resources.schema import GROUP

STDIN: Final = "-"
_SUFFIXES: Final = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Source:
    """A file as it is, line ends and byte order mark included; `path` is None for stdin."""

    name: str
    path: Path | None
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """One object of a source, with the place of everything in the text."""

    source: Source
    node: Node
    body: Mapping[str, Any]

    @property
    def namespace(self) -> str:
        """As the manifest says; empty where it leaves that to kubectl."""
        return str(self.body["metadata"].get("namespace") or "")

    @property
    def name(self) -> str:
        """The object's name; where it has a `generateName` alone, empty."""
        return str(self.body["metadata"].get("name") or "")


@dataclass(frozen=True, slots=True)
class Prefix:
    """A PromptPrefix of the manifests, and the digest that its content has."""

    document: Document
    version: str
    declared: str | None
    digest: Digest

    @property
    def label(self) -> str:
        """`namespace/name`, or the name alone."""
        return "/".join(part for part in (self.document.namespace, self.document.name) if part)


def read(places: Iterable[str], stdin: Iterator[bytes]) -> Iterator[Source]:
    """The sources that `-f` names; of a folder, its YAML and JSON files, sorted.

    Raises:
        ManifestError: there is no such file, or it is not UTF-8.
    """
    for place in places:
        if place == STDIN:
            yield Source("standard input", None, _decoded(b"".join(stdin), "standard input"))
            continue
        path = Path(place)
        paths = sorted(path.iterdir()) if path.is_dir() else [path]
        for file in paths:
            if file == path or (file.suffix in _SUFFIXES and file.is_file()):
                yield Source(str(file), file, _decoded(_bytes(file), str(file)))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}.") from error


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{name}: byte {error.start} is not UTF-8: save the file as UTF-8."
        ) from error


def documents(sources: Iterable[Source]) -> list[Document]:
    """The PromptPrefixes and ConfigMaps; objects of other kinds are not looked into.

    Raises:
        ManifestError: not YAML, or one of these without metadata.
    """
    found = []
    for source in sources:
        for node in compose(source.text, source.name):
            kind, group = _text(node, "kind"), _text(node, "apiVersion").partition("/")[0]
            if (kind, group) not in (("PromptPrefix", GROUP), ("ConfigMap", "v1")):
                continue
            body = value_of(node, source.name)
            if not isinstance(body.get("metadata"), dict):
                raise ManifestError(f"{source.name}: a {kind} has no metadata: give it a name.")
            found.append(Document(source, node, body))
    return found


def _text(node: Node, key: str) -> str:
    found = member(node, key)
    return str(found.value) if isinstance(found, ScalarNode) else ""


def prefixes(given: Iterable[Document]) -> list[Prefix]:
    """Every PromptPrefix with its digest, references followed within the documents.

    Raises:
        ManifestError: it has no content or version, or a reference leads nowhere; names the file.
    """
    given = list(given)
    config_maps = {
        (document.namespace, document.name): document
        for document in given
        if document.body["kind"] == "ConfigMap"
    }
    return [
        _prefix(document, config_maps)
        for document in given
        if document.body["kind"] == "PromptPrefix"
    ]


def _prefix(document: Document, config_maps: Mapping[tuple[str, str], Document]) -> Prefix:
    def lookup(name: str) -> ConfigMapData | None:
        # A manifest without a namespace goes wherever the others go.
        found = config_maps.get((document.namespace, name)) or config_maps.get(("", name))
        return None if found is None else config_map_data(found.body)

    spec = document.body.get("spec")
    where = f"{document.source.name}: PromptPrefix {document.name!r}"
    if not isinstance(spec, dict) or not isinstance(spec.get("version"), str):
        raise ManifestError(f"{where}: spec.version is missing, or not a text: name the version.")
    try:
        digest = digest_of(
            resolve(
                ContentSource.model_validate(spec.get("content")),
                lookup,
                ttl=spec.get("ttl", "5m"),
                provider=spec.get("provider", "anthropic"),
            )
        )
    except MissingReferenceError as error:
        raise ManifestError(
            f"{where}: {error} (Looked for in the documents given: name its file with another -f.)"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["spec.content", *map(str, first["loc"])])
        raise ManifestError(f"{where}: {place}: {first['msg']}.") from error
    except HeadwaterError as error:
        raise ManifestError(f"{where}: {error}") from error
    declared = spec.get("digest")
    return Prefix(document, spec["version"], None if declared is None else str(declared), digest)


def written(source: Source, found: Iterable[Prefix]) -> str:
    """The source's text with the digests in it; nothing else in it changes.

    Raises:
        ManifestError: the digest has no place that could be edited safely.
    """
    text = source.text
    edits = [_edit(prefix, text) for prefix in found if prefix.declared != prefix.digest]
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _edit(prefix: Prefix, text: str) -> tuple[int, int, str]:
    """Start, end and replacement, in characters."""
    old = member(prefix.document.node, "spec", "digest")
    if old is not None:
        start, end = old.start_mark.index, old.end_mark.index
        # Empty as in `digest:`, else as it was written: with these quotes or without.
        quote = text[start] if end > start and text[start] in "'\"" else ""
        space = " " if text[start - 1] == ":" else ""
        if not isinstance(old, ScalarNode) or "\n" in text[start:end]:
            raise ManifestError(
                f"{prefix.document.source.name}:{old.start_mark.line + 1}: spec.digest is not one"
                " line of text: remove it, and run this again."
            )
        return start, end, f"{space}{quote}{prefix.digest}{quote}"
    spec = member(prefix.document.node, "spec")
    assert isinstance(spec, MappingNode)  # noqa: S101 - a version was read from it
    key, version = next(pair for pair in spec.value if pair[0].value == "version")
    end = version.end_mark.index
    if spec.flow_style:
        return end, end, f", digest: {prefix.digest}"
    line_end = text.find("\n", end)
    newline = "\r\n" if "\r\n" in text else "\n"
    indent = text[key.start_mark.index - key.start_mark.column : key.start_mark.index]
    if line_end < 0:
        return len(text), len(text), f"{newline}{indent}digest: {prefix.digest}"
    return line_end + 1, line_end + 1, f"{indent}digest: {prefix.digest}{newline}"
