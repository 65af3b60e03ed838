"""The manifests that a person gives with `-f`: files, folders, standard input.

Reads them, finds the PromptPrefixes and the ConfigMaps that they refer to, and sets a field in a
file so that not one other byte of it changes. It asks no cluster.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from pydantic import ValidationError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from headwater.cli._edit import Edit, Value, placed, replaced
from headwater.cli._yaml import ManifestError, compose, member, value_of
from headwater.contract.content import TTL, canonical_bytes
from headwater.contract.digest import Digest
from headwater.contract.errors import HeadwaterError
from headwater.resources.prefix import ContentSource
from headwater.resources.resolve import (
    ConfigMapData,
    MissingReferenceError,
    config_map_data,
    resolve,
)
from headwater.resources.schema import GROUP, Model

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

    @property
    def place(self) -> str:
        """How an error names it."""
        return f"{self.source.name}: {self.body['kind']} {self.name!r}"


@dataclass(frozen=True, slots=True)
class Prefix:
    """A PromptPrefix of the manifests, and the contract that its content is."""

    document: Document
    version: str
    declared: str | None
    canonical: bytes

    @property
    def digest(self) -> Digest:
        """What its content hashes to, whatever was declared."""
        return Digest.of(self.canonical)

    @property
    def label(self) -> str:
        """`namespace/name`, or the name alone."""
        return "/".join(part for part in (self.document.namespace, self.document.name) if part)


def read(places: Iterable[str], stdin: BinaryIO) -> Iterator[Source]:
    """The sources that `-f` names; of a folder, its YAML and JSON files, sorted.

    Raises:
        ManifestError: there is no such file, or it is not UTF-8.
    """
    for place in places:
        if place == STDIN:
            yield Source("standard input", None, _decoded(stdin.read(), "standard input"))
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
        for node in _objects(compose(source.text, source.name)):
            kind, group = _text(node, "kind"), _text(node, "apiVersion").partition("/")[0]
            if (kind, group) not in (("PromptPrefix", GROUP), ("ConfigMap", "v1")):
                continue
            body = value_of(node, source.name)
            if not isinstance(body.get("metadata"), dict):
                raise ManifestError(f"{source.name}: a {kind} has no metadata: give it a name.")
            found.append(Document(source, node, body))
    return found


def _objects(roots: Iterable[Node]) -> Iterator[Node]:
    """The roots, and for a List (what `kubectl get -o yaml` prints) the objects in it."""
    for root in roots:
        items = member(root, "items") if _text(root, "kind") == "List" else None
        yield from [root] if items is None else items.value


def _text(node: Node, key: str) -> str:
    found = member(node, key)
    return str(found.value) if isinstance(found, ScalarNode) else ""


def prefixes(given: Iterable[Document]) -> list[Prefix]:
    """Every PromptPrefix with its digest, references followed within the documents.

    One that stands both in a file and on standard input is what was built from the file (by
    kustomize, say): its digest is that of what was built, its place is the file.

    Raises:
        ManifestError: it has no content or version, or a reference leads nowhere; names the file.
    """
    given = list(given)
    config_maps = {
        (document.namespace, document.name): document
        for document in given
        if document.body["kind"] == "ConfigMap"
    }
    declared = [document for document in given if document.body["kind"] == "PromptPrefix"]
    built = [_prefix(document, config_maps) for document in declared if not document.source.path]
    files = [document for document in declared if document.source.path]
    found = [_built_from(document, built) or _prefix(document, config_maps) for document in files]
    in_files = {document.name for document in files}
    return [*found, *(prefix for prefix in built if prefix.document.name not in in_files)]


def _built_from(document: Document, built: Iterable[Prefix]) -> Prefix | None:
    twins = [prefix for prefix in built if prefix.document.name == document.name]
    if not twins:
        return None
    declared = _declared(document)
    if len({twin.digest for twin in twins}) > 1 or twins[0].version != declared.version:
        raise ManifestError(
            f"{document.source.name}: standard input has another PromptPrefix {document.name!r}"
            " than the one that is built from this file: give both of the same build."
        )
    return Prefix(document, declared.version, declared.digest, twins[0].canonical)


def _prefix(document: Document, config_maps: Mapping[tuple[str, str], Document]) -> Prefix:
    def lookup(name: str) -> ConfigMapData | None:
        # A manifest without a namespace goes wherever the others go.
        found = config_maps.get((document.namespace, name)) or config_maps.get(("", name))
        return None if found is None else config_map_data(found.body)

    spec = _declared(document)
    try:
        declared = resolve(spec.content, lookup, ttl=spec.ttl, provider=spec.provider)
        return Prefix(document, spec.version, spec.digest, canonical_bytes(declared))
    except MissingReferenceError as error:
        raise ManifestError(
            f"{document.place}: {error}"
            " (Looked for in the documents given: name its file with another -f.)"
        ) from error
    except HeadwaterError as error:
        raise ManifestError(f"{document.place}: {error}") from error


class _Spec(Model):
    """The part of a PromptPrefix that its digest depends on, and where the digest stands."""

    version: str
    digest: str | None = None
    provider: Literal["anthropic"] = "anthropic"
    ttl: TTL = "5m"
    content: ContentSource


def _declared(document: Document) -> _Spec:
    try:
        return _Spec.model_validate(document.body.get("spec"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["spec", *map(str, first["loc"])])
        raise ManifestError(f"{document.place}: {where}: {first['msg']}.") from error


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


def _edit(prefix: Prefix, text: str) -> Edit:
    spec = member(prefix.document.node, "spec")
    assert isinstance(spec, MappingNode)  # noqa: S101 - a version was read from it
    keys = {key.value: (key, value) for key, value in spec.value}
    if "digest" in keys:
        name = prefix.document.source.name
        return replaced(name, "spec.digest", *keys["digest"], text, prefix.digest)
    key, version = keys["version"]
    end = version.end_mark.index
    if spec.flow_style:
        quote = '"' if text[key.start_mark.index] == '"' else ""  # JSON
        return end, end, f", {quote}digest{quote}: {quote}{prefix.digest}{quote}"
    line_end = text.find("\n", end)
    newline = "\r\n" if "\r\n" in text else "\n"
    indent = text[key.start_mark.index - key.start_mark.column : key.start_mark.index]
    if line_end < 0:
        return len(text), len(text), f"{newline}{indent}digest: {prefix.digest}"
    return line_end + 1, line_end + 1, f"{indent}digest: {prefix.digest}{newline}"


def named(sources: Iterable[Source], name: str, namespace: str | None) -> Document:
    """The PromptPrefix of that name.

    Raises:
        ManifestError: there is none with a spec, or more than one.
    """
    sources = list(sources)
    there = [document for document in documents(sources) if document.body["kind"] == "PromptPrefix"]
    found = [
        document
        for document in there
        if document.name == name and namespace in (None, document.namespace or namespace)
    ]
    if len(found) == 1:
        if not isinstance(found[0].body.get("spec"), dict):
            raise ManifestError(f"{found[0].place}: it has no spec.")
        return found[0]
    places = ", ".join(source.name for source in sources)
    if found:
        raise ManifestError(
            f"{places}: {len(found)} PromptPrefixes are called {name!r}: give the one file that is"
            " meant, or its namespace with -n."
        )
    others = ", ".join(document.name for document in there)
    what = f"the PromptPrefixes in it are {others}" if others else "there is no PromptPrefix in it"
    raise ManifestError(f"{places}: no PromptPrefix {name!r}: {what}.")


def with_field(document: Document, path: Sequence[str], value: Value) -> str:
    """The document's source with one field set; nothing else in it changes.

    Raises:
        ManifestError: the field has no place that could be edited safely.
    """
    source = document.source
    start, end, new = placed(source.name, document.node, path, source.text, value)
    edited = replace(source, text=source.text[:start] + new + source.text[end:])
    before = [found.body for found in documents([source])]
    meant = [_with(body, path, value) if body == document.body else body for body in before]
    # The edit is made by position: read it back before it replaces what a person wrote.
    if [found.body for found in documents([edited])] != meant:
        raise ManifestError(
            f"{document.place}: {'.'.join(path)} cannot be written safely: set it to"
            f" {value} by hand."
        )
    return edited.text


def _with(body: Mapping[str, Any], path: Sequence[str], value: Value) -> dict[str, Any]:
    name, *rest = path
    return {**body, name: _with(body.get(name) or {}, rest, value) if rest else value}
