"""`headwater digest`: one answer for one contract, and a file that is changed nowhere else."""

# ruff: noqa: E501 - the tables below are read by their rows
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from headwater.cli import main
from headwater.contract.content import content, digest_of

OLD = "sha256:" + "0" * 64
PREFIX = """\
# What the help desk shares.
apiVersion: headwater.dev/v1alpha1
kind: PromptPrefix
metadata: {name: help-desk, namespace: platform}   # owned by the platform team
spec:
  version: v1   # raise it with every change

  digest: OLD  # by `headwater digest`
  'models': ["claude-opus-5"]
  content:
    system:
    - text: |
        Be brief.

        And kind.BLANKS
    - {text: "caf\\u00e9"}
""".replace("BLANKS", "  ")
DIGEST = digest_of(
    content(tools=[], system=[{"text": "Be brief.\n\nAnd kind.  \n"}, {"text": "café"}], ttl="5m")
)


def run(*arguments: str, given: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["digest", *arguments], input=given)


def file(directory: Path, text: str | bytes, name: str = "prefix.yaml") -> str:
    path = directory / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def config_map(name: str, data: dict[str, str], **more: Any) -> str:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
    return json.dumps({**body, **more})


def referring(**source: Any) -> str:
    """A manifest, in JSON, whose content refers to ConfigMaps."""
    body = {
        "apiVersion": "headwater.dev/v1alpha1",
        "kind": "PromptPrefix",
        "metadata": {"name": "p"},
        "spec": {"version": "v1", "content": source},
    }
    return json.dumps(body)


TEXT_FROM = {"system": [{"textFrom": {"configMapKeyRef": {"name": "prompts", "key": "a.md"}}}]}
TOOLS_FROM = {"toolsFrom": {"configMapKeyRef": {"name": "prompts", "key": "tools.json"}}}


def test_prints_digest_name_and_version(tmp_path: Path) -> None:
    """One line a prefix; the file is left alone."""
    path = file(tmp_path, PREFIX)
    done = run("-f", path)
    assert (done.exit_code, done.stdout) == (0, f"{DIGEST} platform/help-desk v1\n")
    assert Path(path).read_text() == PREFIX


def test_reads_standard_input_folders_and_several_files(tmp_path: Path) -> None:
    """In every way the answer is the same; other files and kinds in a folder do not matter."""
    path = file(tmp_path, PREFIX)
    file(tmp_path, "no yaml at all: [", "README.md")
    file(tmp_path, "kind: Service\napiVersion: v1\nspec: !vault {a: 1}\n", "service.yml")
    for done in (
        run("-f", "-", given=PREFIX),
        run("-f", str(tmp_path)),
        run("-f", path, "-f", str(tmp_path / "service.yml")),
        run("-f", "-", given=f"---\n# nothing\n---\n{PREFIX}---\n"),
        run("-f", "-", given=json.dumps({"kind": "List", "items": []}) + "\n---\n" + PREFIX),
    ):
        assert (done.exit_code, done.stdout) == (0, f"{DIGEST} platform/help-desk v1\n")


def test_prints_json(tmp_path: Path) -> None:
    """What was declared stands beside what is."""
    path = file(tmp_path, PREFIX.replace("OLD", OLD))
    assert json.loads(run("-o", "json", "-f", path).stdout) == [
        {
            "namespace": "platform",
            "name": "help-desk",
            "version": "v1",
            "digest": DIGEST,
            "declared": OLD,
            "file": path,
        }
    ]


WRITTEN = {
    "plain": (PREFIX.replace("OLD", OLD), PREFIX.replace("OLD", DIGEST)),
    "double-quoted": (PREFIX.replace("OLD", f'"{OLD}"'), PREFIX.replace("OLD", f'"{DIGEST}"')),
    "single-quoted": (PREFIX.replace("OLD", f"'{OLD}'"), PREFIX.replace("OLD", f"'{DIGEST}'")),
    "empty": (PREFIX.replace(" OLD", ""), PREFIX.replace("OLD", DIGEST)),
    "empty-quotes": (PREFIX.replace("OLD", "''"), PREFIX.replace("OLD", f"'{DIGEST}'")),
    "mistyped": (PREFIX.replace("OLD", "sha256:abc"), PREFIX.replace("OLD", DIGEST)),
    "absent": (
        PREFIX.replace("  digest: OLD  # by `headwater digest`\n", ""),
        PREFIX.replace("  digest: OLD  # by `headwater digest`\n", "").replace(
            "every change\n", f"every change\n  digest: {DIGEST}\n"
        ),
    ),
    "byte-order-mark": (
        "\ufeff" + PREFIX.replace("OLD", OLD),
        "\ufeff" + PREFIX.replace("OLD", DIGEST),
    ),
    "crlf": (
        PREFIX.replace("OLD", OLD).replace("\n", "\r\n"),
        PREFIX.replace("OLD", DIGEST).replace("\n", "\r\n"),
    ),
    "crlf-absent": (
        PREFIX.replace("  digest: OLD  # by `headwater digest`\n", "").replace("\n", "\r\n"),
        PREFIX.replace("  digest: OLD  # by `headwater digest`\n", "")
        .replace("every change\n", f"every change\n  digest: {DIGEST}\n")
        .replace("\n", "\r\n"),
    ),
    "second-document": (
        "kind: Other\n...\n---\n" + PREFIX.replace("OLD", OLD),
        "kind: Other\n...\n---\n" + PREFIX.replace("OLD", DIGEST),
    ),
}


@pytest.mark.parametrize(("before", "after"), WRITTEN.values(), ids=WRITTEN)
def test_write_changes_the_digest_and_nothing_else(before: str, after: str, tmp_path: Path) -> None:
    """Comments, order, quotes, blank lines, trailing blanks and line ends stay as they are."""
    path = file(tmp_path, before)
    done = run("--write", "-f", path)
    assert (done.exit_code, done.stderr) == (0, f"wrote {path}\n")
    assert Path(path).read_bytes().decode() == after
    again = run("--write", "-f", path)
    assert (again.exit_code, again.stderr) == (0, "")
    assert run("--check", "-f", path).exit_code == 0


@pytest.mark.parametrize(
    ("spec", "after"),
    [
        ("{version: v1, content: {system: [{text: hi}]}}", "{version: v1, digest: NEW, content: {system: [{text: hi}]}}"),
        ('{"version":"v1","digest":"","content":{"system":[{"text":"hi"}]}}', '{"version":"v1","digest":"NEW","content":{"system":[{"text":"hi"}]}}'),
        ("\n  content: {system: [{text: hi}]}\n  version: v1", "\n  content: {system: [{text: hi}]}\n  version: v1\n  digest: NEW"),
    ],
    ids=["flow", "json", "end-of-file"],
)  # fmt: skip
def test_write_finds_a_place_in_any_style(spec: str, after: str, tmp_path: Path) -> None:
    """Flow style, JSON, and a file without a newline at its end."""
    head = "apiVersion: headwater.dev/v1alpha1\nkind: PromptPrefix\nmetadata: {name: p}\nspec: "
    path = file(tmp_path, head + spec)
    assert run("--write", "-f", path).exit_code == 0
    digest = digest_of(content(tools=[], system=[{"text": "hi"}], ttl="5m"))
    assert Path(path).read_text() == head + after.replace("NEW", digest)


def test_two_prefixes_of_one_file_are_both_written(tmp_path: Path) -> None:
    """Each gets its own digest, in its own place."""
    other = PREFIX.replace("help-desk", "other").replace("And kind", "And short")
    path = file(tmp_path, f"{PREFIX}---\n{other}")
    assert run("--write", "-f", path).exit_code == 0
    first, second = run("-f", path).stdout.splitlines()
    assert first.split()[0] == DIGEST != second.split()[0]
    text = Path(path).read_text()
    assert text.index(first.split()[0]) < text.index("---\n") < text.index(second.split()[0])


def test_check_names_both_digests(tmp_path: Path) -> None:
    """And what to do, with exit code 1."""
    path = file(tmp_path, PREFIX.replace("OLD", OLD))
    done = run("--check", "-f", path)
    assert done.exit_code == 1
    for part in (path, OLD, DIGEST, "headwater digest --write", "new version"):
        assert part in done.stderr
    absent = run("--check", "-f", file(tmp_path, PREFIX.replace("OLD", "")))
    assert absent.exit_code == 1
    assert "declares no digest" in absent.stderr


def test_references_are_followed_in_the_documents_given(tmp_path: Path) -> None:
    """From `data` and from `binaryData`, wherever the ConfigMap stands: the same content."""
    text = "# Title\r\n\r\ncafe\u0301 😀  "
    expected = digest_of(content(tools=[], system=[{"text": text}], ttl="5m"))
    encoded = {"a.md": base64.b64encode(text.encode()).decode()}
    prefix = file(tmp_path, referring(**TEXT_FROM), "prefix.json")
    for config in (
        config_map("prompts", {"a.md": text}),
        config_map("prompts", {}, binaryData=encoded),
    ):
        other = file(tmp_path, config, "config.json")
        for done in (
            run("-f", prefix, "-f", other),
            run("-f", str(tmp_path)),
            run("-f", "-", given=f"{config}\n---\n{referring(**TEXT_FROM)}"),
        ):
            assert (done.exit_code, done.stdout) == (0, f"{expected} p v1\n")


def test_what_was_built_gives_the_digest_to_the_file_it_was_built_from(tmp_path: Path) -> None:
    """Names get hashes from kustomize to names: the file alone could not be resolved."""
    source = file(tmp_path, referring(**TEXT_FROM), "prefix.json")
    built = referring(**TEXT_FROM).replace('"prompts"', '"prompts-g6h2"')
    config = config_map("prompts-g6h2", {"a.md": "hello"})
    done = run("-f", "-", "--write", "-f", source, given=f"{config}\n---\n{built}")
    expected = digest_of(content(tools=[], system=[{"text": "hello"}], ttl="5m"))
    assert (done.exit_code, done.stdout) == (0, f"{expected} p v1\n"), done.output
    assert json.loads(Path(source).read_text())["spec"]["digest"] == expected
    other = file(tmp_path, referring(**TEXT_FROM).replace("v1", "v2", 2), "prefix.json")
    refused = run("-f", "-", "--write", "-f", other, given=f"{config}\n---\n{built}")
    assert refused.exit_code == 1
    assert "give both of the same build" in refused.stderr


TOOLS = '[{"name": "t", "input_schema": {"y": 1.0, "n": [1e2, "\\ud83d\\ude00"]}}]'


def test_tools_from_a_config_map_are_json() -> None:
    """Read as JSON is, without any of YAML's surprises."""
    config = config_map("prompts", {"tools.json": TOOLS})
    done = run("-f", "-", given=f"{config}\n---\n{referring(**TOOLS_FROM)}")
    expected = digest_of(content(tools=json.loads(TOOLS), system=[], ttl="5m"))
    assert done.stdout == f"{expected} p v1\n"


NOT_UTF8 = {"binaryData": {"a.md": base64.b64encode(b"caf\xe9").decode()}}
REFUSED = {
    "no prefix": ("kind: ConfigMap\napiVersion: v1\nmetadata: {name: x}\n", ["none of the manifests is a PromptPrefix"]),
    "not yaml": ("a: [1\nb: 2\n", ["standard input:2:2"]),
    "tab": ("a:\n\tb: 1\n", ["standard input:2:1"]),
    "not utf-8": (b"a: caf\xe9\n", ["byte 6 is not UTF-8"]),
    "no config map": (referring(**TEXT_FROM), ["PromptPrefix 'p'", "content.system[0].textFrom", "no ConfigMap 'prompts'", "another -f"]),
    "no key": (config_map("prompts", {"b.md": ""}) + "\n---\n" + referring(**TEXT_FROM), ["has no key 'a.md'", "it has b.md"]),
    "other namespace": (config_map("prompts", {"a.md": "x"}, metadata={"name": "prompts", "namespace": "n"}) + "\n---\n" + referring(**TEXT_FROM), ["no ConfigMap 'prompts'"]),
    "text not utf-8": (config_map("prompts", {}, **NOT_UTF8) + "\n---\n" + referring(**TEXT_FROM), ["is not UTF-8 (byte 3)"]),
    "tools not json": (config_map("prompts", {"tools.json": "- name: t"}) + "\n---\n" + referring(**TOOLS_FROM), ["is not a JSON list of tools"]),
    "tools no list": (config_map("prompts", {"tools.json": "{}"}) + "\n---\n" + referring(**TOOLS_FROM), ["is not a JSON list of tools, but of type dict"]),
    "tools repeat a key": (config_map("prompts", {"tools.json": '[{"name":"a","name":"b"}]'}) + "\n---\n" + referring(**TOOLS_FROM), ["the key 'name' stands twice"]),
    "no content": (referring(), ["tools and system are both empty"]),
    "no version": (referring(system=[{"text": "x"}]).replace('"version"', '"versions"'), ["spec.version: Field required"]),
    "version no text": (referring(system=[{"text": "x"}]).replace('"v1"', "1.10"), ["PromptPrefix 'p': spec.version: Input should be a valid string"]),
    "text is a number": (referring(system=[{"text": 12}]), ["spec.content.system.0.text"]),
    "another ttl": (PREFIX.replace("  version", "  ttl: 10m\n  version"), ["spec.ttl: Input should be '5m' or '1h'"]),
    "another provider": (PREFIX.replace("  version", "  provider: other\n  version"), ["spec.provider: Input should be 'anthropic'"]),
    "no spec": (PREFIX[: PREFIX.index("spec:")], ["PromptPrefix 'help-desk': spec: Input should be"]),
    "no metadata": (PREFIX.replace("metadata: {name", "meta: {name"), ["has no metadata"]),
    "both": (referring(system=[{"text": "x", **TEXT_FROM["system"][0]}]), ["either text or textFrom"]),
    "repeated key": (PREFIX + "    system: []\n", ["standard input:17:5", "the key 'system' stands twice"]),
    "a tag": (PREFIX.replace("text: |", "text: !!binary |"), ["the tag tag:yaml.org,2002:binary is not read"]),
    "the tag !": (PREFIX.replace("text: |", "text: ! |"), ["the tag ! is not read"]),
    "infinite": (PREFIX.replace("'models'", "x: .inf\n  'models'"), [".inf is no number that JSON has"]),
}  # fmt: skip


@pytest.mark.parametrize(("given", "parts"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_resolved_is_refused(given: str | bytes, parts: list[str]) -> None:
    """Exit code 1, no digest, and a sentence that names the place."""
    done = run("-f", "-", given=given)
    assert done.exit_code == 1
    assert done.stdout == ""
    for part in parts:
        assert part in done.stderr


def test_standard_input_cannot_be_written_to() -> None:
    """The hint says what is missing."""
    done = run("--write", "-f", "-", given=PREFIX)
    assert done.exit_code == 2
    assert "give the manifest with a further -f FILE" in done.stderr


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the reason."""
    done = run("-f", str(tmp_path / "none.yaml"))
    assert done.exit_code == 1
    assert "none.yaml: No such file or directory" in done.stderr


def test_nothing_is_written_where_anything_is_wrong(tmp_path: Path) -> None:
    """All files or none."""
    good = file(tmp_path, PREFIX, "good.yaml")
    file(tmp_path, referring(**TEXT_FROM), "refers.json")
    assert run("--write", "-f", str(tmp_path)).exit_code == 1
    assert Path(good).read_text() == PREFIX


EXAMPLES = Path(__file__).parents[3] / "examples"


def test_the_quickstart_declares_its_digest() -> None:
    """A newcomer's first apply is served."""
    assert run("--check", "-f", str(EXAMPLES / "quickstart")).exit_code == 0
