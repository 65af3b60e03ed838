"""The manifest's author: what is changed from one version to the next, and the file it is in.

Each change is made to the file that kubectl then applies, and `headwater digest` names its bytes,
as a commit would do it. Comments and order survive, so that a diff shows what was changed.
"""

import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

MANIFEST: Final = "examples/quickstart/prompt-prefix.yaml"
_SHOWN_LINES: Final = 8
_SHOWN_WIDTH: Final = 96

PATIENCE: Final[dict[str, Any]] = {
    "steps": [{"setWeight": 25}, {"pause": {"duration": "3s"}}, {"setWeight": 50}],
    "analysis": {"minHitRate": 0.9, "minRequests": 20},
    "approval": "Required",
}
"""A rollout that is over in seconds: the quickstart's takes its time."""
_ADDED: Final = """
# Handing over

Where a person has to take over, say so in one sentence, name the team, and repeat what has been
tried so far, so that nobody has to tell their story twice. Stay in the conversation until the
other team has answered.
"""
_KEPT_SECTIONS: Final = 2


def shorten_the_wait(manifest: Any) -> None:
    """The demo's own change: seconds where the quickstart has minutes, and v1 is approved."""
    spec = manifest["spec"]
    spec["rollout"].update(PATIENCE | {"approvedDigest": spec["digest"]})


def second_version(manifest: Any) -> None:
    """v2: a section more."""
    _rewrite(manifest, "v2", lambda text: text + _ADDED)


def third_version(manifest: Any) -> None:
    """v3: half as long, which looks like a saving and falls below one model's minimum."""
    for tool in manifest["spec"]["content"]["tools"]:
        tool["description"] = re.split(r"(?<=\.)\s", tool["description"])[0]
    _rewrite(manifest, "v3", lambda text: "".join(re.split(r"(?m)^(?=# )", text)[:_KEPT_SECTIONS]))


def approve(digest: str) -> Callable[[Any], None]:
    """The approval: it names the exact bytes."""

    def change(manifest: Any) -> None:
        manifest["spec"]["rollout"]["approvedDigest"] = digest

    return change


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change a manifest in place."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    document = yaml.load(path.read_text())
    change(document)
    with path.open("w") as file:
        yaml.dump(document, file)


def diff(before: str, after: str) -> str:
    """The changed lines, the first few of them."""
    lines = [
        line
        for line in difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
        if not line.startswith(("---", "+++", "@@")) and len(line) > 1
    ]
    shown = [
        line if len(line) <= _SHOWN_WIDTH else f"{line[: _SHOWN_WIDTH - 1]}…"
        for line in lines[:_SHOWN_LINES]
    ]
    left = len(lines) - len(shown)
    return "\n".join([*shown, *([f"… and {left} lines more"] if left else [])])


def _rewrite(manifest: Any, version: str, rewrite: Callable[[str], str]) -> None:
    manifest["spec"]["version"] = version
    block = manifest["spec"]["content"]["system"][0]
    block["text"] = LiteralScalarString(rewrite(str(block["text"])))
