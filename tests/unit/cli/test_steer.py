"""Decisions of people as edits of a manifest: one field changes, and not one other byte."""

# ruff: noqa: E501 - the tables below are read by their rows
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headwater.cli import main
from tests.unit.cli.prefixes import DIGESTS

DIGEST = DIGESTS["v2"]
BLOCK = f"""\
# What the help desk shares.
apiVersion: headwater.dev/v1alpha1
kind: PromptPrefix
metadata: {{name: help-desk, namespace: platform}}
spec:   # of the platform team

  version: v2
  digest: {DIGEST}  # by `headwater digest`
  rollout:
      # carefully
      approval: Required
  content: {{system: [{{text: hi}}]}}
"""
FLOW = (
    "{apiVersion: headwater.dev/v1alpha1, kind: PromptPrefix, metadata: {name: help-desk},"
    f" spec: {{version: v2, digest: '{DIGEST}', rollout: {{}}}}}}\n"
)
JSON = (
    '{"apiVersion":"headwater.dev/v1alpha1","kind":"PromptPrefix","metadata":{"name":"help-desk"},'
    f'"spec":{{"version":"v2","digest":"{DIGEST}"}}}}'
)
OTHER = BLOCK.replace("help-desk", "other")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def file(directory: Path, text: str) -> str:
    path = directory / "prefix.yaml"
    path.write_bytes(text.encode())
    return str(path)


def after_line(text: str, line: str, new: str) -> str:
    """The text with something new behind a line of it."""
    head, found, tail = text.partition(line)
    assert found
    return head + found + new + tail


SPEC, ROLLOUT = "spec:   # of the platform team\n", "  rollout:\n"
OTHER_APPROVAL = f"      approvedDigest: 'sha256:{'0' * 64}' # older\n"
APPROVAL = f"      approvedDigest: {DIGEST}\n"
EDITS: dict[str, tuple[str, str, str]] = {
    "approve": ("approve", BLOCK, after_line(BLOCK, ROLLOUT, APPROVAL)),
    "approve, where another is approved": (
        "approve",
        after_line(BLOCK, "approval: Required\n", OTHER_APPROVAL),
        after_line(BLOCK, "approval: Required\n", f"      approvedDigest: '{DIGEST}' # older\n"),
    ),
    "approve, without a rollout": (
        "approve",
        BLOCK.replace("  rollout:\n      # carefully\n      approval: Required\n", ""),
        after_line(
            BLOCK.replace("  rollout:\n      # carefully\n      approval: Required\n", ""),
            SPEC,
            f"  rollout:\n    approvedDigest: {DIGEST}\n",
        ),
    ),
    "approve, in flow style": (
        "approve",
        FLOW,
        FLOW.replace("rollout: {}", f"rollout: {{approvedDigest: {DIGEST}}}"),
    ),
    "approve, in JSON": (
        "approve",
        JSON,
        JSON.replace('{"version"', f'{{"rollout": {{"approvedDigest": "{DIGEST}"}}, "version"'),
    ),
    "pause": ("pause", BLOCK, after_line(BLOCK, SPEC, "  suspend: true\n")),
    "pause, where it went on before": (
        "pause",
        after_line(BLOCK, SPEC, "  suspend: false # no\n"),
        after_line(BLOCK, SPEC, "  suspend: true # no\n"),
    ),
    "pause, with CRLF": (
        "pause",
        BLOCK.replace("\n", "\r\n"),
        after_line(BLOCK, SPEC, "  suspend: true\n").replace("\n", "\r\n"),
    ),
    "resume": (
        "resume",
        after_line(BLOCK, SPEC, "  suspend: yes\n"),
        after_line(BLOCK, SPEC, "  suspend: false\n"),
    ),
    "retry": ("retry", BLOCK, after_line(BLOCK, SPEC, "  retry: 1\n")),
    "retry again": (
        "retry",
        after_line(BLOCK, SPEC, "  retry: 9\n"),
        after_line(BLOCK, SPEC, "  retry: 10\n"),
    ),
    "retry, nothing behind the colon": (
        "retry",
        after_line(BLOCK, SPEC, "  retry:  # none\n"),
        after_line(BLOCK, SPEC, "  retry: 1  # none\n"),
    ),
    "the second of two": (
        "pause",
        f"{OTHER}---\n{BLOCK}",
        f"{OTHER}---\n" + after_line(BLOCK, SPEC, "  suspend: true\n"),
    ),
    "in a list": (
        "pause",
        "apiVersion: v1\nkind: List\nitems:\n- " + BLOCK.replace("\n", "\n  "),
        "apiVersion: v1\nkind: List\nitems:\n- "
        + after_line(BLOCK, SPEC, "  suspend: true\n").replace("\n", "\n  "),
    ),
}


@pytest.mark.parametrize(("command", "before", "after"), EDITS.values(), ids=EDITS)
def test_one_field_changes_and_nothing_else(
    command: str, before: str, after: str, tmp_path: Path
) -> None:
    """Comments, order, quotes, blank lines and line ends stay; the next step is named."""
    path = file(tmp_path, before)
    done = run(command, "help-desk", "-f", path)
    assert done.exit_code == 0, done.stderr
    assert Path(path).read_bytes().decode() == after
    assert done.stdout.startswith(f"{path}: spec.")
    assert done.stdout.endswith(f"Commit it: git commit -m '{command} help-desk' {path}\n")


@pytest.mark.parametrize(("command", "before", "after"), EDITS.values(), ids=EDITS)
def test_a_dry_run_prints_the_difference_and_writes_nothing(
    command: str, before: str, after: str, tmp_path: Path
) -> None:
    """One line more, and one less where the field was there."""
    path = file(tmp_path, before)
    done = run(command, "help-desk", "-f", path, "--dry-run")
    assert done.exit_code == 0
    assert Path(path).read_bytes().decode() == before
    lines = [line for line in done.stdout.splitlines() if line[:1] in "+-" and line[:3] != "+++"]
    assert lines[0] == f"--- {path}"
    added = [line[1:] for line in lines if line[0] == "+"]
    assert added == [line for line in after.splitlines() if line not in before.splitlines()]


def test_what_was_done_is_told(tmp_path: Path) -> None:
    """The field, its value, what it was, and what that means."""
    path = file(tmp_path, after_line(BLOCK, SPEC, "  retry: 9\n"))
    assert run("retry", "help-desk", "-f", path).stdout.splitlines()[0] == (
        f"{path}: spec.retry is 10 (was 9): v2 is tried again."
    )
    assert run("approve", "help-desk", "-f", path).stdout.splitlines()[0] == (
        f"{path}: spec.rollout.approvedDigest is {DIGEST}: v2 is approved."
    )


NOTHING: dict[str, tuple[str, str, str]] = {
    "approved already": ("approve", after_line(BLOCK, ROLLOUT, APPROVAL), "v2 of help-desk is approved already"),
    "stands still already": ("pause", after_line(BLOCK, SPEC, "  suspend: true\n"), "stands still already"),
    "goes on already": ("resume", BLOCK, "help-desk does not stand still"),
    "no digest": ("approve", BLOCK.replace(f"  digest: {DIGEST}", "  # none"), "headwater digest --write"),
    "no such prefix": ("pause", OTHER, "no PromptPrefix 'help-desk': the PromptPrefixes in it are other"),
    "no prefix at all": ("pause", "kind: Service\n", "there is no PromptPrefix in it"),
    "two of them": ("pause", f"{BLOCK}---\n{BLOCK.replace('platform}', 'elsewhere}')}", "2 PromptPrefixes are called 'help-desk'"),
    "no mapping": ("approve", BLOCK.replace("  rollout:\n      # carefully\n      approval: Required\n", "  rollout:\n"), "spec.rollout is no mapping"),
    "no spec": ("retry", BLOCK[: BLOCK.index("spec:")], "PromptPrefix 'help-desk': it has no spec"),
    "an odd spec": ("approve", BLOCK.replace(DIGEST, "12").replace("  rollout:", "  rollout: []\n  x:"), "'12' is no digest"),
    "an odd rollout": ("approve", BLOCK.replace("  rollout:", "  rollout: [1]\n  x:"), "spec.rollout is no mapping"),
    "an odd retry": ("retry", after_line(BLOCK, SPEC, "  retry: twice\n"), "spec.retry is 'twice'"),
    "no line": ("pause", BLOCK.replace("  content", "  suspend: [\n  ]\n  content"), "spec.suspend is not one line of text"),
}  # fmt: skip


@pytest.mark.parametrize(("command", "text", "message"), NOTHING.values(), ids=NOTHING)
def test_what_cannot_be_done_is_refused(
    command: str, text: str, message: str, tmp_path: Path
) -> None:
    """With a sentence, and the file as it was."""
    path = file(tmp_path, text)
    done = run(command, "help-desk", "-f", path)
    assert done.exit_code == 1
    assert message in done.stderr
    assert Path(path).read_text() == text


def test_a_namespace_tells_two_of_a_name_apart(tmp_path: Path) -> None:
    """And only the one that is meant is changed."""
    elsewhere = BLOCK.replace("namespace: platform", "namespace: elsewhere")
    path = file(tmp_path, f"{BLOCK}---\n{elsewhere}")
    assert run("pause", "help-desk", "-f", path, "-n", "elsewhere").exit_code == 0
    changed = after_line(elsewhere, SPEC, "  suspend: true\n")
    assert Path(path).read_text() == f"{BLOCK}---\n{changed}"


def test_what_an_alias_shares_is_left_alone(tmp_path: Path) -> None:
    """The edit would change another field as well, so a person makes it."""
    shared = BLOCK.replace("rollout:\n", "x: &x\n      approvedDigest: none\n  rollout: *x\n  y:\n")
    path = file(tmp_path, shared)
    done = run("approve", "help-desk", "-f", path)
    assert done.exit_code == 1
    assert "spec.rollout.approvedDigest cannot be written safely" in done.stderr
    assert Path(path).read_text() == shared


def test_an_approval_of_other_bytes_is_refused(tmp_path: Path) -> None:
    """Whoever says which bytes they reviewed approves those or none."""
    path = file(tmp_path, BLOCK)
    done = run("approve", "help-desk", "-f", path, "--digest", DIGESTS["v1"])
    assert done.exit_code == 1
    assert f"declares v2 as {DIGEST}, not {DIGESTS['v1']}" in done.stderr
    assert run("approve", "help-desk", "-f", path, "--digest", "v2").exit_code == 1
    assert Path(path).read_text() == BLOCK
    assert run("approve", "help-desk", "-f", path, "--digest", DIGEST).exit_code == 0


@pytest.mark.parametrize("command", ["approve", "pause", "resume", "retry"])
@pytest.mark.parametrize("where", [(), ("-f", "x.yaml", "--cluster")])
def test_where_is_asked_for(command: str, where: tuple[str, ...]) -> None:
    """Both ways are explained; neither is taken for granted."""
    done = run(command, "help-desk", *where)
    assert done.exit_code == 2
    assert "-f FILE    edits the manifest for a commit" in done.stderr
    assert "--cluster  changes the PromptPrefix in the cluster at once" in done.stderr


def test_an_abort_edits_no_file() -> None:
    """The commit before has the content as it was written: it says how to get it."""
    for arguments in (("-f", "prefix.yaml"), ()):
        done = run("abort", "help-desk", *arguments)
        assert done.exit_code == 2
        assert "git revert" in done.stderr
        assert "--cluster" in done.stderr
