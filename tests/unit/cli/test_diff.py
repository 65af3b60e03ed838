"""`headwater diff` of manifests: what a person sees, to the letter, and what a program gets."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headwater.cli import main
from headwater.providers.models import lookup
from tests.unit.cli.prefixes import DIGESTS, MODEL, V1, V2, body


@pytest.fixture(autouse=True)
def manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two versions, the second with a further tool, and a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    third = {**V2, "tools": [{**V1["tools"][0], "x": True}, {"name": "close"}]}
    long = {**V1, "tools": [{**V1["tools"][0], "description": "Long. " * 4_000}, V1["tools"][1]]}
    for name, content in (("v1", V1), ("v2", V2), ("v3", third)):
        Path(f"{name}.yaml").write_text(
            json.dumps(body(spec={"version": name, "content": content}))
        )
    for name, system in (("long1", V1["system"]), ("long2", V2["system"])):
        source = {**long, "system": system}
        Path(f"{name}.yaml").write_text(json.dumps(body(spec={"content": source})))


def run(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(main, ["diff", *arguments], input=given)


ONE_TEXT = """\
- v1.yaml (v1)  e5062fb7a683
+ v2.yaml (v2)  97143cb605c3

~ system[1] has another text

The first difference: system[1].text, byte 9,738
- …ral"},"text":"Answer in one sentence.\\nName the article that you…
+ …ral"},"text":"Answer in two sentences.\\nName the article that yo…
                           ^

What is the same up to a cache marker (tools[0] to tools[1]) is too short to be
cached by itself: everything is written anew.

TOKENS, ABOUT      BEFORE   AFTER    SAME   CACHED    ANEW
claude-opus-4-8     3,264   3,265   3,184        0   3,265
claude-haiku-4-5    2,511   2,511   2,449        0   2,511

--- v1.yaml (v1) system[1]
+++ v2.yaml (v2) system[1]
@@ -1,2 +1,2 @@
-Answer in one sentence.
+Answer in two sentences.
 Name the article that you took it from.
"""


def test_another_text() -> None:
    """Where they part, what it costs, and the lines."""
    done = run("v1.yaml", "v2.yaml")
    assert done.exit_code == 1
    assert done.stdout == ONE_TEXT


OTHER_TOOLS = """\
- v2.yaml (v2)  97143cb605c3
+ v3.yaml (v3)  07cce29d2380

- tools[1] ticket is gone
~ tools[0] search has another x
+ tools[1] close is new

The first difference: tools[0].x, byte 9,910
- …object"},"name":"search"}
+ …object"},"name":"search","x":true}
                           ^

No cache entry of v2.yaml (v2) can be read: everything is written anew.

TOKENS, ABOUT      BEFORE   AFTER   SAME   CACHED    ANEW
claude-opus-4-8     3,265   3,246      0        0   3,246
claude-haiku-4-5    2,511   2,497      0        0   2,497

--- v2.yaml (v2) tools[1]
+++ /dev/null
@@ -1,11 +0,0 @@
-{
-  "cache_control": {
-    "ttl": "5m",
-    "type": "ephemeral"
-  },
-  "description": "Opens a ticket.",
-  "input_schema": {
-    "type": "object"
-  },
-  "name": "ticket"
-}

--- v2.yaml (v2) tools[0]
+++ v3.yaml (v3) tools[0]
@@ -3,5 +3,6 @@
   "input_schema": {
     "type": "object"
   },
-  "name": "search"
+  "name": "search",
+  "x": true
 }

--- /dev/null
+++ v3.yaml (v3) tools[1]
@@ -0,0 +1,7 @@
+{
+  "cache_control": {
+    "ttl": "5m",
+    "type": "ephemeral"
+  },
+  "name": "close"
+}
"""


def test_other_tools() -> None:
    """By their names; a tool that changes loses everything behind it."""
    done = run("v2.yaml", "v3.yaml")
    assert done.exit_code == 1
    assert done.stdout == OTHER_TOOLS


def test_what_stays_in_the_cache_is_told() -> None:
    """Tools that are long enough for an entry of their own are read, the rest is written anew."""
    done = run("long1.yaml", "long2.yaml", "-o", "json")
    found = json.loads(done.stdout)
    assert found["stillCached"] == {"tools": 2, "system": 0}
    assert [change["fields"] for change in found["changes"]] == [["text"]]
    assert found["firstDifference"]["path"] == "system[1].text"
    assert found["firstDifference"]["after"].startswith("two sentences.")
    assert all(len(str(part)) <= 41 for part in found["firstDifference"].values())
    cost = next(cost for cost in found["estimatedTokens"] if cost["model"] == MODEL)
    facts = lookup(MODEL)
    assert facts is not None
    assert facts.min_cacheable_tokens < cost["cached"] < cost["same"] < cost["after"]
    assert cost["written"] == cost["after"] - cost["cached"]
    text = run("long1.yaml", "long2.yaml").stdout
    assert (
        "The cache of long1.yaml (v2) still has tools[0] to tools[1]; the rest is written\nanew."
        in text
    )


def test_the_same_bytes() -> None:
    """However they are written down: exit code 0, nothing lost."""
    done = run("v1.yaml", "-", given=json.dumps(body(spec={"version": "v9", "content": V1})))
    assert done.exit_code == 0
    digest = DIGESTS["v1"].short
    assert done.stdout == (
        f"- v1.yaml (v1)  {digest}\n+ standard input (v9)  {digest}\n\nThe same bytes.\n"
    )
    found = json.loads(run("v1.yaml", "v1.yaml", "-o", "json").stdout)
    assert found["same"] is True
    assert {cost["written"] for cost in found["estimatedTokens"]} == {0}


def test_one_of_several_is_chosen_by_name() -> None:
    """A folder, too, can be a side; what is not in it is not guessed."""
    Path("both").mkdir()
    other = body(spec={"content": V1})
    other["metadata"]["name"] = "other"
    Path("both/a.yaml").write_text(Path("v2.yaml").read_text())
    Path("both/b.json").write_text(json.dumps(other))
    for arguments in (("both", "both"), ("both/", "both/", "--prefix", "none")):
        done = run(*arguments)
        assert done.exit_code == 2
        assert "there are help-desk, other: choose with --prefix" in done.stderr
    assert run("both/", "both/b.json", "--prefix", "other").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("v1.yaml", "v9.yaml"), "v9.yaml: No such file or directory"),
        (("v1.yaml", "./"), "one PromptPrefix is compared"),
        (("v1.yaml", "v2"), "write NAME@VERSION for a published version, or"),
        (("v1.yaml", "--prefix"), "--prefix"),
    ],
)
def test_trouble_is_told_from_a_difference(arguments: tuple[str, ...], message: str) -> None:
    """Exit code 2, as of diff(1)."""
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
