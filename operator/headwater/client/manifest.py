"""Reads a PromptPrefix manifest: imported for that alone, as it needs pydantic and YAML."""

import io
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from headwater.contract.content import TTL, canonical_bytes
from headwater.contract.digest import Digest
from headwater.contract.errors import BundleError, HeadwaterError
from headwater.resources.prefix import ContentSource
from headwater.resources.resolve import ConfigMapData, config_map_data, resolve
from headwater.resources.schema import Model


class Manifest(NamedTuple):
    """What a manifest declares, its digest verified."""

    name: str
    version: str
    models: tuple[str, ...]
    canonical: bytes


class _Spec(Model):
    version: str
    digest: str
    models: tuple[str, ...]
    provider: Literal["anthropic"] = "anthropic"
    ttl: TTL = "5m"
    content: ContentSource


def read(data: bytes, place: str) -> Manifest:
    """The one PromptPrefix in a YAML or JSON file; ConfigMaps in the same file are followed.

    Raises:
        BundleError: there is none or another, or its content hashes to another digest than it says.
    """
    documents = [each for each in _documents(data, place) if isinstance(each, dict)]
    declared = [each for each in documents if each.get("kind") == "PromptPrefix"]
    if len(declared) != 1:
        raise BundleError(f"{place}: {len(declared)} PromptPrefixes: load takes a file with one.")
    body = declared[0]
    maps = [each for each in documents if each.get("kind") == "ConfigMap"]

    def lookup(name: str) -> ConfigMapData | None:
        found = [each for each in maps if each["metadata"]["name"] == name]
        return config_map_data(found[0]) if found else None

    try:
        known = {key: value for key, value in body["spec"].items() if key in _Spec.model_fields}
        spec = _Spec.model_validate(known)
        content = resolve(spec.content, lookup, ttl=spec.ttl, provider=spec.provider)
        canonical = canonical_bytes(content)
        name = str(body["metadata"]["name"])
    except (KeyError, AttributeError, TypeError, ValidationError, HeadwaterError) as error:
        raise BundleError(f"{place}: {error}") from error
    if Digest.of(canonical) != spec.digest:
        raise BundleError(
            f"{place}: {name} says {spec.digest}, and its content is {Digest.of(canonical)}:"
            " `headwater digest --write` corrects a draft; what is published is never edited."
        )
    return Manifest(name, spec.version, spec.models, canonical)


def _documents(data: bytes, place: str) -> list[Any]:
    # Where YAML's readers differ from kubectl, the digest tells.
    try:
        return list(YAML(typ="safe", pure=True).load_all(io.BytesIO(data)))
    except YAMLError as error:
        raise BundleError(f"{place} is no YAML: {error}") from error
