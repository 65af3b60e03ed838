"""`headwater lint`: places in files, the reports, and the exit codes that CI goes by."""

import json
import shlex
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from headwater.cli._manifests import documents, prefixes, read
from headwater.cli.lint import command
from headwater.contract.lint import IGNORE_ANNOTATION, RULES

ROOT: Final = Path(__file__).parents[3]
EXAMPLES: Final = ROOT / "examples" / "lint"
DOCUMENT: Final = (ROOT / "docs" / "lint.md").read_text()


def run(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(command, list(arguments), input=given)


def found(*arguments: str, given: str | None = None) -> dict[str, Any]:
    """What is found, by its rule."""
    done = run(*arguments, "-o", "json", given=given)
    assert done.exit_code in (0, 1), done.stderr
    return {finding["rule"]: finding for finding in json.loads(done.stdout)}


def manifest(content: str, *, name: str = "help-desk", annotations: str = "") -> str:
    head = "apiVersion: headwater.dev/v1alpha1\nkind: PromptPrefix\n"
    metadata = f"metadata:\n  name: {name}\n{annotations}"
    return f"{head}{metadata}spec:\n  version: v1\n  content:\n{content}"


def system(text: str) -> str:
    return manifest(f"    system:\n      - text: {text}\n")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


ERROR: Final = system("Today is Friday.")
WARNING: Final = system("Hello {user_name}.")
NOTE: Final = system('"One. "')
CLEAN: Final = system("Be brief.")


@pytest.mark.parametrize(
    ("text", "threshold", "code"),
    [
        (CLEAN, "note", 0),
        (NOTE, "error", 0),
        (NOTE, "warning", 0),
        (NOTE, "note", 1),
        (WARNING, "error", 0),
        (WARNING, "warning", 1),
        (ERROR, "error", 1),
        (ERROR, "note", 1),
    ],
)
def test_exit_codes(text: str, threshold: str, code: int) -> None:
    """0 below the threshold, 1 from it on; the findings are printed either way."""
    assert run("-f", "-", "--fail-on", threshold, given=text).exit_code == code


@pytest.mark.parametrize(
    ("arguments", "given", "message"),
    [
        (("-f", "none.yaml"), None, "none.yaml: No such file"),
        (("-f", "-"), "a: [", "standard input:1:"),
        (("-f", "-"), "kind: Pod", "none of the manifests is a PromptPrefix"),
        (("-f", "-"), manifest("    {}\n").replace("version", "v"), "spec.version"),
        (
            ("-f", "-"),
            system("").replace("text: ", "textFrom: {configMapKeyRef: {name: gone, key: a}}"),
            "there is no ConfigMap 'gone'",
        ),
        (("-f", "-", "--tenant", "("), CLEAN, "'(' is no regular expression"),
        (("-f", "-", "--ignore", "todya"), CLEAN, "todya"),
        (("-f", "-", "--previous", "none"), CLEAN, "none: No such file"),
        ((), None, "--filename"),
    ],
)
def test_trouble_is_told_from_findings(
    arguments: tuple[str, ...], given: str | None, message: str
) -> None:
    """Exit code 2: CI must not take what could not be read for what is clean."""
    done = run(*arguments, given=given)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


STYLES: Final = {
    "block": ("|\n          One.\n          Grüße: Today is Friday.\n", "Today is Friday"),
    "block, indented more": ("|2\n            One.\n            Today is Friday.\n", "Today is"),
    "block, blank lines": ("|\n\n          One.\n\n\n          Today is Friday.\n", "Today is"),
    "folded": (">-\n          One.\n          Today is Friday.\n", "Today is Friday"),
    "plain": ("One. Today is Friday.\n", "Today is Friday"),
    "quoted": ('"One.\\nToday is Friday."\n', "Today is Friday"),
    "single": ("'It''s so. Today is Friday.'\n", "Today is Friday"),
    "folded within": (">-\n          One. Today\n          is Friday.\n", ">-"),
    "escaped": ('"One. T\\x6fday is Friday."\n', '"One.'),
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_place_is_what_an_editor_shows(style: str, newline: str) -> None:
    """Line and column of the words; where YAML writes them otherwise, of the text."""
    written, words = STYLES[style]
    text = system(written).replace("\n", newline)
    Path("a.yaml").write_bytes(text.encode())
    place = found("-f", "a.yaml")["today"]
    line = text.split(newline)[place["line"] - 1]
    assert line[place["column"] - 1 :].startswith(words)


def test_the_place_of_invisible_bytes() -> None:
    """The second of two like it, behind characters of several bytes."""
    text = system("|\n          a  b\n          Grüße, 東京  \n          c\n")
    Path("a.yaml").write_text(text)
    place = found("-f", "a.yaml")["trailing-blank"]
    assert (place["line"], place["column"]) == (11, 20)
    assert (place["offset"], place["length"]) == (len("a  b\nGrüße, 東京".encode()), 2)
    assert place["path"] == "spec.content.system[0].text"


CONFIG_MAP: Final = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: prompts}
data:
  prompt.md: |
    One.
    Today is Friday.
  tools.json: |
    [{"name": "search", "input_schema": {"type": "object"},
      "description": "Searches {{ index }}."}]
"""
REFERRING: Final = manifest("""\
    toolsFrom: {configMapKeyRef: {name: prompts, key: tools.json}}
    system:
      - textFrom: {configMapKeyRef: {name: prompts, key: prompt.md}}
""")


def test_places_in_config_maps() -> None:
    """In whichever file they are, JSON within YAML included."""
    Path("prefix.yaml").write_text(REFERRING)
    Path("config.yaml").write_text(CONFIG_MAP)
    places = found("-f", "prefix.yaml", "-f", "config.yaml")
    today, placeholder = places["today"], places["placeholder"]
    assert (today["file"], today["line"], today["column"]) == ("config.yaml", 7, 5)
    assert (placeholder["line"], placeholder["column"]) == (10, 32)
    assert placeholder["path"] == "spec.content.tools[0].description"


def test_what_was_built_has_the_places_of_its_file() -> None:
    """As kustomize builds: the ConfigMap has another name, so the reference is the place."""
    Path("prefix.yaml").write_text(REFERRING)
    built = f"{REFERRING}---\n{CONFIG_MAP}".replace("name: prompts", "name: prompts-7d9f")
    done = run("-f", "-", "-f", "prefix.yaml", "-o", "json", given=built)
    places = {one["rule"]: (one["file"], one["line"]) for one in json.loads(done.stdout)}
    assert places == {"today": ("prefix.yaml", 10), "placeholder": ("prefix.yaml", 8)}


def test_what_binary_data_holds_has_the_place_of_the_reference() -> None:
    """There is no line in base64."""
    data = CONFIG_MAP.partition("\ndata:")[0] + "\nbinaryData: {p: VG9kYXkgaXMgRnJpZGF5Lg==}\n"
    text = manifest("    system: [{textFrom: {configMapKeyRef: {name: prompts, key: p}}}]\n")
    place = found("-f", "-", given=f"{text}---\n{data}")["today"]
    assert place["file"] == "standard input"
    assert place["line"] == 8


def test_several_files_and_folders() -> None:
    """Each prefix for itself, in the order of files and lines."""
    Path("many").mkdir()
    Path("many/b.yaml").write_text(ERROR)
    Path("many/a.yaml").write_text(f"{WARNING}---\n{manifest('    tools: []')}")
    done = run("-f", "many", "-f", "-", "-o", "json", given=NOTE.replace("help-desk", "other"))
    rows = [(one["file"], one["prefix"], one["rule"]) for one in json.loads(done.stdout)]
    assert rows == [
        ("many/a.yaml", "help-desk", "format-field"),
        ("many/a.yaml", "help-desk", "no-contract"),
        ("many/b.yaml", "help-desk", "today"),
        ("standard input", "other", "trailing-blank"),
    ]


def test_what_is_no_contract_is_a_finding() -> None:
    """With its place; the other prefixes are linted."""
    tools = "    tools: [{name: a, input_schema: {type: object}}, {name: a}]\n"
    Path("a.yaml").write_text(f"{manifest(tools, name='twice')}---\n{ERROR}")
    places = found("-f", "a.yaml")
    assert set(places) == {"no-contract", "today"}
    assert (places["no-contract"]["line"], places["no-contract"]["column"]) == (8, 54)


def test_ignored_rules() -> None:
    """On the command line for all, in an annotation for one; a name that is none is told."""
    assert run("-f", "-", "--ignore", "today", given=ERROR).stdout == "Nothing found.\n"
    annotations = f"  annotations:\n    {IGNORE_ANNOTATION}: 'today, todya'\n"
    content = "    system: [{text: Today is Friday.}]\n"
    places = found("-f", "-", given=manifest(content, annotations=annotations))
    assert set(places) == {"unknown-rule"}
    assert places["unknown-rule"]["line"] == 6
    annotations = f"  annotations: {{{IGNORE_ANNOTATION}: no-contract}}\n"
    places = found("-f", "-", given=manifest("    tools: []", annotations=annotations))
    assert set(places) == {"no-contract"}


def test_the_version_before_sets_the_order_of_tools() -> None:
    """Found by the prefix's name in the manifests of the version before."""
    tool = "      - {name: %s, input_schema: {type: object}}\n"
    Path("before.yaml").write_text(manifest("    tools:\n" + tool % "a" + tool % "b"))
    after = manifest("    tools:\n" + tool % "b" + tool % "a")
    assert found("-f", "-", given=after) == {}
    places = found("-f", "-", "--previous", "before.yaml", given=after)
    assert places["tool-order"]["line"] == 9
    other = after.replace("help-desk", "other")
    assert found("-f", "-", "--previous", "before.yaml", given=other) == {}


def test_the_models_of_a_prefix_set_its_least_size() -> None:
    """From the dated facts; a model that is not known has none."""
    text = CLEAN.replace("  version", "  models: [claude-opus-4-8, none]\n  version")
    assert set(found("-f", "-", given=text)) == {"below-minimum"}


def test_sarif() -> None:
    """What code scanning needs: every rule, and for each result its rule, level and region."""
    Path("a b.yaml").write_text(ERROR)
    log = json.loads(run("-f", "a b.yaml", "-o", "sarif").stdout)
    assert log["version"] == "2.1.0"
    (one,) = log["runs"]
    rules = one["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(RULES)
    (result,) = one["results"]
    assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == "today"
    assert result["level"] == "error"
    (location,) = result["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "a%20b.yaml"},
        "region": {"startLine": 9, "startColumn": 15},
    }
    (logical,) = location["logicalLocations"]
    assert logical["fullyQualifiedName"] == "help-desk spec.content.system[0].text"
    assert json.loads(run("-f", "-", "-o", "sarif", given=CLEAN).stdout)["runs"][0]["results"] == []


def test_annotations_of_github() -> None:
    """One line each, with the characters escaped that its syntax needs."""
    Path("a,b.yaml").write_text(system('"50 %s"'))
    done = run("-f", "a,b.yaml", "-o", "github")
    start = "::warning file=a%2Cb.yaml,line=9,col=19,title=headwater format-field::spec.content"
    assert done.stdout.startswith(start)
    assert '"%25s"' in done.stdout
    assert run("-f", "-", "-o", "github", given=NOTE).stdout.startswith("::notice file=standard")
    assert run("-f", "-", "-o", "github", given=CLEAN).stdout == ""


def test_a_secret_stands_in_no_report() -> None:
    """Logs of CI are kept, and read by many."""
    text = system("The key is AKIAIOSFODNN7QWERTYU.")
    for output in ("text", "json", "sarif", "github"):
        done = run("-f", "-", "-o", output, given=text)
        assert done.exit_code == 1
        assert "FODNN7QWERTYU" not in done.output


def test_tenants_are_known_from_the_manifest() -> None:
    """What an author runs says what the webhook and the controller will; options add to it."""
    declared = "  tenantPattern: ['(?i)\\bacme\\b']\n"
    given = system("Be kind to Acme and to Umbrella.") + declared
    assert found("-f", "-", given=given)["tenant-name"]["excerpt"] == "Acme"
    both = found("-f", "-", "--tenant", "Umbrella", given=given)["tenant-name"]
    assert "(2 times in this text" in both["message"]
    done = run("-f", "-", given=system("Be brief.") + "  tenantPattern: ['(']\n")
    assert done.exit_code == 2
    assert "'(' is no regular expression" in done.stderr


def test_the_example_and_what_the_document_shows_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the letter; the prompt as a contract has nothing left to say about."""
    monkeypatch.chdir(EXAMPLES)
    done = run("-f", "before/release-helper.yaml")
    assert done.exit_code == 1
    assert f"\n{done.stdout}```\n" in DOCUMENT
    after = run("-f", "after", "--previous", "before")
    assert (after.exit_code, after.stdout) == (0, "Nothing found.\n")


def test_the_quickstart_is_clean() -> None:
    """With notes, too."""
    done = run("-f", str(ROOT / "examples" / "quickstart"), "--fail-on", "note")
    assert (done.exit_code, done.stdout) == (0, "Nothing found.\n")


@pytest.mark.parametrize("name", ["before", "after"])
def test_the_examples_declare_their_digests(name: str) -> None:
    """Both can be applied: what is unwise is no contract's end."""
    places = [str(EXAMPLES / name)]
    (prefix,) = prefixes(documents(read(places, stdin=None)))  # type: ignore[arg-type]
    assert prefix.declared == prefix.digest


def commands(value: Any) -> list[str]:
    """The command lines of a workflow that run this command."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [line for part in inner for line in commands(part)]
    return [str(value)] if str(value).startswith("headwater lint -") else []


@pytest.mark.parametrize("file", sorted((EXAMPLES / "ci").iterdir()), ids=lambda file: file.stem)
def test_the_workflows_are_commands_that_there_are(file: Path) -> None:
    """On a repository with its prompts in `prompts`, and the version before beside it."""
    for folder in ("prompts", "before/prompts"):
        Path(folder).mkdir(parents=True)
        Path(folder, "a.yaml").write_text(CLEAN)
    Path("checkout").mkdir()
    lines = commands(YAML(typ="safe").load(file.read_text()))
    assert lines
    for line in lines:
        words = shlex.split(line.replace("../", ""))[2:]
        if ">" in words:
            words = words[: words.index(">")]
        assert run(*words).exit_code == 0, line


def test_the_document_lists_every_rule() -> None:
    """With what it finds, why that matters, and what to do, in the code's own words."""
    rows = [
        f"| `{rule.id}` | {rule.severity} | {rule.says} | {rule.costs} | {rule.remedy} |"
        for rule in RULES.values()
    ]
    assert "\n".join(rows) in DOCUMENT
