"""Findings as other programs take them: SARIF for code scanning, GitHub's workflow commands."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import quote

from headwater.cli._manifests import Source
from headwater.cli._places import Place
from headwater.contract.lint import RULES, Finding

_COMMANDS: Final = {"error": "error", "warning": "warning", "note": "notice"}


@dataclass(frozen=True, slots=True)
class Located:
    """A finding of one prefix (`namespace/name`), and where its file has it."""

    prefix: str
    finding: Finding
    place: Place


def sarif(found: Sequence[Located]) -> dict[str, Any]:
    """A log of SARIF 2.1.0 (docs.oasis-open.org/sarif/sarif/v2.1.0) with every rule in it."""
    numbers = {name: number for number, name in enumerate(RULES)}
    rules = [
        {
            "id": rule.id,
            "shortDescription": {"text": f"{rule.says[0].upper()}{rule.says[1:]}."},
            "fullDescription": {"text": rule.costs},
            "help": {"text": rule.remedy},
            "defaultConfiguration": {"level": rule.severity},
        }
        for rule in RULES.values()
    ]
    driver = {"name": "headwater lint", "version": version("headwater"), "rules": rules}
    results = [_result(located, numbers) for located in found]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/"
        "sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    }


def _result(located: Located, numbers: dict[str, int]) -> dict[str, Any]:
    finding, place = located.finding, located.place
    location: dict[str, Any] = {
        "logicalLocations": [{"fullyQualifiedName": f"{located.prefix} {finding.where}"}],
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(place.source)},
            "region": {"startLine": place.line, "startColumn": place.column},
        },
    }
    return {
        "ruleId": finding.rule,
        "ruleIndex": numbers[finding.rule],
        "level": finding.severity,
        "message": {"text": finding.sentence},
        "locations": [location],
    }


def _uri(source: Source) -> str:
    if source.path is not None and source.path.is_absolute():
        return source.path.as_uri()
    return quote(source.name.replace("\\", "/"))


def github(found: Iterable[Located]) -> Iterable[str]:
    """Lines that a step of a GitHub workflow prints to annotate the files of a pull request."""
    for located in found:
        finding, place = located.finding, located.place
        properties: dict[str, str | int] = {
            "file": place.source.name,
            "line": place.line,
            "col": place.column,
            "title": f"headwater {finding.rule}",
        }
        listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
        message = _escaped(f"{finding.where}: {finding.sentence}")
        yield f"::{_COMMANDS[finding.severity]} {listed}::{message}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str | int) -> str:
    return _escaped(str(value)).replace(":", "%3A").replace(",", "%2C")
