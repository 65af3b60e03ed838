"""`examples/gitops`, a repository for a reader to copy: what each tool in it makes of it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import lupa.lua51  # type: ignore[import-untyped]  # it has no stubs of its own
import pytest
from ruamel.yaml import YAML

from tests.cluster.control_plane import Cluster
from tests.cluster.waiting import scaled
from tests.integration.controller.harness import ROOT, install_crds

GITOPS = ROOT / "examples" / "gitops"
GOLDEN = ROOT / "tests" / "unit" / "controller" / "golden"
YAML_FILES = sorted(path for path in GITOPS.rglob("*.yaml") if path.is_file())


def documents(path: Path) -> list[Any]:
    return list(YAML(typ="safe").load_all(path.read_text()))


@pytest.fixture
def repository(control_plane: Cluster, tmp_path: Path) -> Path:
    """A copy in a repository of its own, with the hook that pre-commit would run."""
    copy = tmp_path / "prompts"
    shutil.copytree(GITOPS, copy)
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "kubectl").symlink_to(control_plane.kubectl_binary)
    (binaries / "headwater").symlink_to(Path(sys.executable).with_name("headwater"))
    run(copy, "git", "init", "-q", "-b", "main")
    (hook,) = documents(copy / ".pre-commit-config.yaml")[0]["repos"][0]["hooks"]
    script = copy / ".git" / "hooks" / "pre-commit"
    script.write_text(f"#!/bin/sh\nexec {hook['entry']}\n")
    script.chmod(0o755)
    return copy


def run(repository: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path = f"{repository.parent / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin"
    author = {
        f"GIT_{role}_{part}": "reader@example.com"
        for role in ("AUTHOR", "COMMITTER")
        for part in ("NAME", "EMAIL")
    }
    return subprocess.run(
        command,
        cwd=repository,
        env={"PATH": path, "HOME": str(repository.parent), **author},
        capture_output=True,
        text=True,
        check=False,
        timeout=scaled(60),
    )


def commit(repository: Path) -> subprocess.CompletedProcess[str]:
    run(repository, "git", "add", "--all")
    return run(repository, "git", "commit", "-q", "-m", "a change")


def test_the_hook_lets_what_is_right_pass_and_stops_one_changed_byte(repository: Path) -> None:
    """It says both digests, and its way out works word for word."""
    assert commit(repository).returncode == 0

    prompt = repository / "prompts" / "support-desk.md"
    prompt.write_text(prompt.read_text().replace("six sentences", "6 sentences"))
    refused = commit(repository)
    assert refused.returncode == 1
    assert re.search(r"declares sha256:\w{64}, and its content is sha256:\w{64}", refused.stderr)
    (way_out,) = re.findall(r"^  (kubectl kustomize .*)$", refused.stderr, re.MULTILINE)

    manifest = repository / "prompts" / "prompt-prefix.yaml"
    manifest.write_text(manifest.read_text().replace("2026.11.1", "2026.11.2"))
    assert run(repository, "sh", "-c", way_out).returncode == 0
    mended = commit(repository)
    assert mended.returncode == 0, mended.stderr


def test_the_hook_stops_what_would_miss_the_cache(repository: Path) -> None:
    """Lint looks at what is built: the text of the Markdown file."""
    prompt = repository / "prompts" / "support-desk.md"
    prompt.write_text("Now is 2026-11-21T10:32:11Z.\n\n" + prompt.read_text())
    refused = commit(repository)
    assert refused.returncode == 1
    assert "error [" in refused.stderr


def test_what_is_built_is_taken_by_the_api_server(control_plane: Cluster) -> None:
    """The hashed name of the ConfigMap stands in `textFrom`."""
    install_crds(control_plane)
    built = control_plane.kubectl("kustomize", str(GITOPS / "prompts")).stdout
    config_map, prefix = YAML(typ="safe").load_all(built)
    (block,) = prefix["spec"]["content"]["system"]
    assert block["textFrom"]["configMapKeyRef"]["name"] == config_map["metadata"]["name"]
    assert re.fullmatch(r"support-desk-\w{10}", config_map["metadata"]["name"])
    built = built.replace("namespace: ai-platform", "namespace: default")
    done = control_plane.kubectl(
        *("apply", "--server-side", "--dry-run=server", "--warnings-as-errors", "-f", "-"),
        input=built,
    )
    assert done.stderr == ""


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: str(path.relative_to(GITOPS)))
def test_each_file_is_yaml_with_what_its_tool_asks_for(path: Path) -> None:
    """Nothing else in this repository reads them."""
    for body in documents(path):
        if path.parent.name in ("argo-cd", "flux"):
            assert {"apiVersion", "kind", "metadata"} <= body.keys()
            assert body["metadata"].keys() >= {"name", "namespace"}


def test_all_point_to_the_folder_with_the_prompts() -> None:
    """Argo CD, Flux, the hook and the workflow."""
    (application,) = documents(GITOPS / "argo-cd" / "application.yaml")
    source, kustomization = documents(GITOPS / "flux" / "prompts.yaml")
    assert source["metadata"]["name"] == kustomization["spec"]["sourceRef"]["name"]
    workflow = (GITOPS / ".github" / "workflows" / "prompts.yaml").read_text()
    hook = (GITOPS / ".pre-commit-config.yaml").read_text()
    assert application["spec"]["source"]["path"] == "prompts"
    assert kustomization["spec"]["path"] == "./prompts"
    assert all("scripts/check-prompts prompts" in text for text in (workflow, hook))
    assert (GITOPS / "prompts" / "kustomization.yaml").exists()


def health(kind: str, body: dict[str, Any]) -> dict[str, str]:
    """What Argo CD would show: its Lua is 5.1, and gets the object as `obj`."""
    (config_map,) = documents(GITOPS / "argo-cd" / "argocd-cm.yaml")
    script = config_map["data"][f"resource.customizations.health.headwater.dev_{kind}"]
    lua = lupa.lua51.LuaRuntime(register_eval=False, register_builtins=False)
    lua.globals().obj = lua.table_from(body, recursive=True)
    return dict(lua.execute(script))


EXPECTED = {
    "aborted": "Healthy",
    "awaiting-approval": "Suspended",
    "broken-content": "Degraded",
    "compared": "Progressing",
    "first-canary": "Progressing",
    "outage": "Suspended",
    "overdue": "Degraded",
    "paused": "Suspended",
    "pending": "Degraded",
    "progressing": "Progressing",
    "promoted": "Healthy",
    "promoting": "Progressing",
    "raised": "Progressing",
    "retained": "Healthy",
    "rolled-back": "Degraded",
    "stable": "Healthy",
    "superseded": "Progressing",
    "suspended": "Suspended",
    "warming": "Progressing",
}
"""By the name of the situation, for statuses as every release wrote them."""


@pytest.mark.parametrize(
    "path", sorted(GOLDEN.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_argo_cd_tells_how_a_prefix_is(path: Path) -> None:
    """With the sentence that the condition Ready has."""
    body = documents(path)[0]["prefix"]
    found = health("PromptPrefix", body)
    assert found["status"] == EXPECTED[path.stem], found
    assert found["message"]


def warmer(**status: Any) -> dict[str, Any]:
    return {"metadata": {"generation": 2}, "spec": {"suspend": False}, **status}


def conditions(ready: str, stalled: str) -> list[dict[str, str]]:
    return [
        {"type": "Ready", "status": ready, "message": "as it is"},
        {"type": "Stalled", "status": stalled, "message": "as it is"},
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (warmer(), "Progressing"),
        (
            warmer(status={"observedGeneration": 1, "conditions": conditions("True", "False")}),
            "Progressing",
        ),
        (
            warmer(status={"observedGeneration": 2, "conditions": conditions("True", "False")}),
            "Healthy",
        ),
        (
            warmer(status={"observedGeneration": 2, "conditions": conditions("False", "False")}),
            "Progressing",
        ),
        (
            warmer(status={"observedGeneration": 2, "conditions": conditions("False", "True")}),
            "Degraded",
        ),
        (
            warmer(status={"observedGeneration": 2, "conditions": conditions("True", "False")})
            | {"spec": {"suspend": True}},
            "Suspended",
        ),
    ],
)
def test_argo_cd_tells_how_a_warmer_is(body: dict[str, Any], expected: str) -> None:
    """By the same conditions."""
    assert health("CacheWarmer", body)["status"] == expected
