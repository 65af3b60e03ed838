"""The CRDs and the manifests on a real API server: taken without a warning, refused with reason."""

# ruff: noqa: E501 - the tables below are read by their rows
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from headwater.cli import main
from headwater.cli._yaml import compose, value_of
from headwater.cluster import CACHE_WARMER, PROMPT_PREFIX
from headwater.contract.content import digest_of
from headwater.resources import PromptPrefix, resolve
from tests.cluster.control_plane import Cluster
from tests.integration.controller.harness import Api, ApiError

ROOT = Path(__file__).parents[2]
DIGEST = "sha256:" + "0" * 64
OTHER = "sha256:" + "1" * 64
NOW = "2026-11-21T07:00:00Z"
MARKER = {"type": "ephemeral", "ttl": "5m"}
FROM = {"configMapKeyRef": {"name": "prompts", "key": "a.md"}}
ABSENT = object()

PREFIX: dict[str, Any] = {
    "apiVersion": "headwater.dev/v1alpha1",
    "kind": "PromptPrefix",
    "metadata": {"name": "p"},
    "spec": {
        "owner": {"team": "platform"},
        "version": "v1",
        "digest": DIGEST,
        "models": ["claude-opus-5"],
        "content": {"tools": [{"name": "t"}], "system": [{"text": "x"}]},
        "consumers": {"namespaceSelector": {}},
    },
}
WARMER: dict[str, Any] = {
    "apiVersion": "headwater.dev/v1alpha1",
    "kind": "CacheWarmer",
    "metadata": {"name": "w"},
    "spec": {
        "prefixRef": {"name": "p"},
        "credentials": [{"name": "prod", "secretRef": {"name": "s", "key": "k"}}],
    },
}

Apply = Callable[[dict[str, Any]], None]


APPLY_CRDS = (
    *("apply", "--server-side", "--force-conflicts", "--field-manager=headwater-tests"),
    *("--warnings-as-errors", "-f", f"{ROOT}/crds"),
)


@pytest.fixture(scope="session")
def crds(control_plane: Cluster) -> Cluster:
    """The cluster with our CRDs, served."""
    control_plane.kubectl(*APPLY_CRDS)
    control_plane.kubectl(
        *("wait", "--for=condition=Established", "--timeout=120s"),
        *("crd/promptprefixes.headwater.dev", "crd/cachewarmers.headwater.dev"),
    )
    return control_plane


def test_the_crds_are_taken_without_a_word(crds: Cluster) -> None:
    """Structural, within the limits for rules, and nothing in them is deprecated."""
    done = crds.kubectl(*APPLY_CRDS, "--dry-run=server")
    assert done.stderr == ""
    for name in ("promptprefixes", "cachewarmers"):
        conditions = crds.get("crd", f"{name}.headwater.dev")["status"]["conditions"]
        assert {c["type"]: c["status"] for c in conditions} == {
            "NamesAccepted": "True",
            "Established": "True",
        }


@pytest.fixture
def apply(crds: Cluster, namespace: str, api_of: Callable[[Cluster], Api]) -> Apply:
    """Send an object as `kubectl apply --server-side` does: strictly; a warning is an error."""
    api = api_of(crds)

    def send(body: dict[str, Any]) -> None:
        kind = {"PromptPrefix": PROMPT_PREFIX, "CacheWarmer": CACHE_WARMER}[body["kind"]]
        api.apply(kind, {**body, "metadata": {**body["metadata"], "namespace": namespace}})
        assert not api.warnings

    return send


def changed(body: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy in which the fields at these dotted paths have other values."""
    body = copy.deepcopy(body)
    for path, value in changes.items():
        *parents, last = path.split(".")
        node = body
        for name in parents:
            node = node.setdefault(name, {})
        if value is ABSENT:
            del node[last]
        else:
            node[last] = value
    return body


def steps(*found: dict[str, Any]) -> dict[str, Any]:
    return {"spec.rollout": {"steps": list(found)}}


TAKEN: dict[str, dict[str, Any]] = {
    "as it is": {},
    "only tools": {"spec.content": {"tools": [{"name": "t", "input_schema": {"a": {"b": 1}}}]}},
    "only system": {"spec.content": {"system": [{"textFrom": FROM}]}},
    "tools from": {"spec.content": {"toolsFrom": FROM}},
    "two markers": {
        "spec.content": {
            "tools": [{"name": "t", "cache_control": {**MARKER, "ttl": "1h"}}],
            "system": [{"text": "x", "cache_control": MARKER}],
        }
    },
    "canary": steps({"setWeight": 5}, {"pause": {"duration": "1h30m"}}, {"setWeight": 100}, {"pause": {}}),
    "immediate": {"spec.rollout": {"strategy": "Immediate"}},
    "a strategy of breakpoints": {"spec.breakpointStrategy": "C", "spec.injectionPoints": []},
    "points": {"spec.injectionPoints": [{"role": "user", "index": -2}, {"role": "system"}, {}]},
    "selector": {
        "spec.consumers.namespaceSelector": {
            "matchLabels": {"a": "b"},
            "matchExpressions": [
                {"key": "c", "operator": "In", "values": ["d"]},
                {"key": "c", "operator": "Exists"},
            ],
        }
    },
    "named namespaces": {"spec.consumers": {"namespaces": ["a", "b"]}},
    "selected and named": {"spec.consumers": {"namespaceSelector": {}, "namespaces": ["a"]}},
    "dedicated": {"spec.consumers": {"isolation": "Dedicated", "namespaces": ["a"]}},
    "tenants": {"spec.tenantPattern": [r"(?i)\b(acme|umbrella)\b", "tenant_id", r"\pL+", "a*"]},
    "everything": {
        "spec.provider": "anthropic",
        "spec.ttl": "1h",
        "spec.enforcement": "Observe",
        "spec.suspend": True,
        "spec.retry": 3,
        "spec.revisionHistoryLimit": 5,
        "spec.owner.contact": "#platform",
        "spec.rollout": {
            "strategy": "Canary",
            "analysis": {"minHitRate": 0.95, "minRequests": 20},
            "approval": "Required",
            "approvedDigest": OTHER,
        },
    },
}  # fmt: skip


@pytest.mark.parametrize("changes", TAKEN.values(), ids=TAKEN)
def test_a_sound_prefix_is_taken(changes: dict[str, Any], apply: Apply) -> None:
    """Without a warning."""
    apply(changed(PREFIX, changes))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "tools and toolsFrom": ({"spec.content.toolsFrom": FROM}, "tools and toolsFrom are both given: keep one of them"),
    "nothing": ({"spec.content": {"tools": []}}, "tools and system are both empty: declare at least one"),
    "no content": ({"spec.content": ABSENT}, "spec.content: Required value"),
    "text and textFrom": ({"spec.content.system": [{"text": "x", "textFrom": FROM}]}, "either text or textFrom: keep one of them"),
    "neither": ({"spec.content.system": [{}]}, "either text or textFrom"),
    "empty text": ({"spec.content.system": [{"text": ""}]}, "the text is empty, which the provider refuses"),
    "five markers": ({"spec.content.system": [{"text": "x", "cache_control": MARKER}] * 5}, "at most 2 cache markers"),
    "three markers": ({"spec.content": {"tools": [{"name": "t", "cache_control": MARKER}], "system": [{"text": "x", "cache_control": MARKER}] * 2}}, "at most 2 cache markers"),
    "1h after 5m": ({"spec.content": {"tools": [{"name": "t", "cache_control": {"type": "ephemeral"}}], "system": [{"text": "x", "cache_control": {**MARKER, "ttl": "1h"}}]}}, "give the earlier marker the longer ttl"),
    "ttl of a marker": ({"spec.content.system": [{"text": "x", "cache_control": {**MARKER, "ttl": "10m"}}]}, 'supported values: "5m", "1h"'),
    "ttl": ({"spec.ttl": "10m"}, 'supported values: "5m", "1h"'),
    "a tool without a name": ({"spec.content.tools": [{"description": "x"}]}, "spec.content.tools[0].name: Required value"),
    "a digest cut short": ({"spec.digest": "sha256:abc"}, "`headwater digest --write -f FILE` puts the right one into the file"),
    "no digest": ({"spec.digest": ABSENT}, "spec.digest: Required value"),
    "an approval of nothing": ({"spec.rollout": {"approvedDigest": "yes"}}, "`headwater digest --write -f FILE`"),
    "version": ({"spec.version": "a b"}, "begins and ends with a letter or a digit"),
    "a long version": ({"spec.version": "v" * 64}, "at most 63"),
    "another provider": ({"spec.provider": "other"}, 'supported values: "anthropic"'),
    "no models": ({"spec.models": []}, "spec.models"),
    "a model twice": ({"spec.models": ["a", "a"]}, "duplicate entries for key"),
    "weight over 100": (steps({"setWeight": 101}), "should be less than or equal to 100"),
    "weight of nothing": (steps({"setWeight": 0}), "should be greater than or equal to 1"),
    "falling weights": (steps({"setWeight": 50}, {"setWeight": 20}), "each setWeight must be greater than the one before"),
    "equal weights": (steps({"setWeight": 50}, {"pause": {}}, {"setWeight": 50}), "each setWeight must be greater than the one before"),
    "step with both": (steps({"setWeight": 5, "pause": {}}), "a step is either setWeight or pause: write two steps"),
    "step with neither": (steps({}), "a step is either setWeight or pause"),
    "duration": (steps({"pause": {"duration": "10 minutes"}}), "write it like 90s, 10m or 1h30m"),
    "steps without a weight": (steps({"pause": {}}), "no step has a setWeight"),
    "immediate with steps": ({"spec.rollout": {"strategy": "Immediate", "steps": [{"setWeight": 5}]}}, "Immediate takes no steps: remove steps, or choose the strategy Canary"),
    "strategy": ({"spec.rollout": {"strategy": "Blue"}}, 'supported values: "Canary", "Immediate"'),
    "hit rate over one": ({"spec.rollout": {"analysis": {"minHitRate": 90}}}, "should be less than or equal to 1"),
    "enforcement": ({"spec.enforcement": "Warn"}, 'supported values: "Enforce", "Observe"'),
    "strategy of breakpoints": ({"spec.breakpointStrategy": "D"}, 'supported values: "A", "B", "C"'),
    "a point's key": ({"spec.injectionPoints": [{"role": "user", "idx": 1}]}, ".spec.injectionPoints[0].idx: field not declared in schema"),
    "a point's role": ({"spec.injectionPoints": [{"role": "tool"}]}, "spec.injectionPoints[0].role"),
    "four points": ({"spec.injectionPoints": [{"index": n} for n in range(4)]}, "spec.injectionPoints"),
    "points and a strategy": ({"spec.injectionPoints": [{"index": 0}], "spec.breakpointStrategy": "A"}, "take strategy B and list every place"),
    "retry": ({"spec.retry": -1}, "should be greater than or equal to 0"),
    "selector": ({"spec.consumers.namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}, "In and NotIn need values"),
    "no consumers": ({"spec.consumers": ABSENT}, "spec.consumers: Required value"),
    "consumers of none": ({"spec.consumers": {}}, "nobody gets the prefix: give namespaceSelector, or namespaces, or both"),
    "no name": ({"spec.consumers": {"namespaces": []}}, "spec.consumers.namespaces"),
    "dedicated to a selector": ({"spec.consumers": {"isolation": "Dedicated", "namespaces": ["a"], "namespaceSelector": {}}}, "name the namespaces in namespaces"),
    "dedicated to nobody": ({"spec.consumers": {"isolation": "Dedicated"}}, "a Dedicated prefix goes to namespaces that are named: give namespaces"),
    "isolation": ({"spec.consumers.isolation": "Private"}, 'supported values: "Shared", "Dedicated"'),
    "a tenant's expression": ({"spec.tenantPattern": ["acme", "(acme"]}, "spec.tenantPattern[1]: Invalid value"),
    "what is wrong with it": ({"spec.tenantPattern": ["(acme"]}, "missing closing ): `(acme`"),
    "looking round": ({"spec.tenantPattern": ["(?<=a)b"]}, "(?<="),
    "seventeen expressions": ({"spec.tenantPattern": [f"a{n}" for n in range(17)]}, "spec.tenantPattern"),
    "a long expression": ({"spec.tenantPattern": ["a" * 201]}, "spec.tenantPattern[0]"),
    "a long name": ({"metadata.name": "p" * 64}, "it takes at most 63 characters"),
    "unknown field": ({"spec.modles": ["a"]}, ".spec.modles: field not declared in schema"),
    "unknown field inside": ({"spec.content.system": [{"text": "x", "cacheControl": MARKER}]}, ".cacheControl: field not declared in schema"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_an_unsound_prefix_is_refused(changes: dict[str, Any], message: str, apply: Apply) -> None:
    """With words that say what to do, under the field where it is."""
    with pytest.raises(ApiError) as refused:
        apply(changed(PREFIX, changes))
    assert message in refused.value.message


REFUSED_WARMERS: dict[str, tuple[dict[str, Any], str]] = {
    "every minute": ({"spec.schedule": "61 * * * *"}, "neither Auto nor five cron fields"),
    "four fields": ({"spec.schedule": "* * * *"}, "neither Auto nor five cron fields"),
    "a macro": ({"spec.schedule": "@hourly"}, "neither Auto nor five cron fields"),
    "no credential": ({"spec.credentials": []}, "spec.credentials"),
    "a credential twice": ({"spec.credentials": [*WARMER["spec"]["credentials"]] * 2}, "duplicate entries for key"),
    "warm": ({"spec.warm": "All"}, 'supported values: "Stable", "StableAndCandidate"'),
    "neither key nor identity": ({"spec.credentials": [{"name": "a"}]}, "takes one of secretRef and workloadIdentity"),
    "half an hour": ({"spec.activeHours": {"from": "07:30", "to": "20:00"}}, "is no full hour from 00:00 to 23:00"),
    "midnight twice": ({"spec.activeHours": {"from": "00:00", "to": "00:00"}}, "is no full hour from 01:00 to 24:00"),
    "no hour": ({"spec.activeHours": {"from": "08:00", "to": "08:00"}}, "leave activeHours out"),
    "a night of days": ({"spec.activeHours": {"from": "22:00", "to": "06:00", "days": ["Mon"]}}, "let it end at 24:00"),
    "no day": ({"spec.activeHours": {"from": "07:00", "to": "20:00", "days": ["Someday"]}}, 'supported values: "Mon"'),
    "a budget of words": ({"spec.budget": {"maxUsdPerDay": "lots"}}, "is no amount above 0 in US dollars"),
    "a budget of nothing": ({"spec.budget": {"maxUsdPerDay": "0.00"}}, "is no amount above 0 in US dollars"),
    "thinking with a budget": ({"spec.request": {"thinking": "enabled"}}, 'supported values: "adaptive", "disabled"'),
    "a delay": ({"spec.verify": {"delay": "soon"}}, "is no duration"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), REFUSED_WARMERS.values(), ids=REFUSED_WARMERS)
def test_an_unsound_warmer_is_refused(changes: dict[str, Any], message: str, apply: Apply) -> None:
    """With words that say what to do."""
    with pytest.raises(ApiError) as refused:
        apply(changed(WARMER, changes))
    assert message in refused.value.message


@pytest.mark.parametrize(
    "schedule", ["Auto", "*/4 * * * *", "0,30 7-19 * * mon-fri", "0 0 1 JAN 0", "5/10  2 */2 1-6 *"]
)
def test_a_sound_warmer_is_taken(schedule: str, apply: Apply) -> None:
    """`Auto`, or five cron fields."""
    apply(changed(WARMER, {"spec.schedule": schedule, "spec.models": ["claude-opus-5"]}))


@pytest.mark.parametrize(
    "spec",
    [
        {"activeHours": {"timeZone": "Europe/Berlin", "from": "07:00", "to": "24:00", "days": ["Mon"]}},
        {"activeHours": {"from": "22:00", "to": "06:00"}},
        {"budget": {"maxUsdPerDay": "1.50"}, "whenUneconomical": "Suspend"},
        {"request": {"thinking": "adaptive", "effort": "high", "betas": ["b"]}, "verify": {"attempts": 0}},
        {"credentials": [{"name": "a", "workloadIdentity": {"federationRuleId": "r", "organizationId": "o"}}]},
    ],
)  # fmt: skip
def test_more_of_a_warmer(spec: dict[str, Any], apply: Apply) -> None:
    """Each field as its documentation writes it."""
    apply(changed(WARMER, {f"spec.{name}": value for name, value in spec.items()}))


def test_a_prompt_of_a_megabyte_is_taken(apply: Apply) -> None:
    """The rules cost no more than the API server allows, also for the largest of contents."""
    tools = [{"name": f"t{n}", "description": "x" * 500} for n in range(128)]
    system = [{"text": "word " * 6000} for _ in range(32)]
    apply(changed(PREFIX, {"spec.content": {"tools": tools, "system": system}}))


def write_status(cluster: Cluster, namespace: str, status: dict[str, Any]) -> None:
    cluster.kubectl(
        *("patch", "pp", "p", "-n", namespace, "--subresource=status", "--type=merge"),
        *("-p", json.dumps({"status": status})),
    )


def test_a_published_version_is_bound_to_its_digest(
    apply: Apply, crds: Cluster, namespace: str
) -> None:
    """A mistyped digest can be corrected until the version is published, and never after."""
    apply(changed(PREFIX, {"spec.digest": OTHER}))
    apply(PREFIX)  # nothing was published: the digest was a typing error
    write_status(crds, namespace, {"published": [{"version": "v1", "digest": DIGEST}]})
    with pytest.raises(ApiError, match=r"spec\.digest") as refused:
        apply(changed(PREFIX, {"spec.digest": OTHER}))
    said = refused.value.message
    assert "version v1 was published with another digest and is bound to it" in said
    assert "It belongs to platform: publish a new version" in said
    apply(changed(PREFIX, {"spec.suspend": True}))
    apply(changed(PREFIX, {"spec.version": "v2", "spec.digest": OTHER}))
    apply(PREFIX)  # back to v1 with its own digest: the abort


def test_a_status_can_be_written_after_the_spec_moved_on(
    apply: Apply, crds: Cluster, namespace: str
) -> None:
    """An edit may come between publishing and saying so: the status must not be locked out."""
    apply(changed(PREFIX, {"spec.digest": OTHER}))
    published = {"published": [{"version": "v1", "digest": DIGEST}]}
    write_status(crds, namespace, published)
    write_status(crds, namespace, {**published, "phase": "Degraded"})
    apply(changed(PREFIX, {"spec.digest": OTHER, "spec.retry": 1}))


def test_kubectl_get_shows_what_matters(apply: Apply, crds: Cluster, namespace: str) -> None:
    """The columns, by the short names and by the category."""
    apply(PREFIX)
    apply(WARMER)
    revision = {"digest": DIGEST, "configMap": "c"}
    write_status(
        crds,
        namespace,
        {
            "phase": "Progressing",
            "message": "v8 gets 5 %.",
            "hitRate": "98%",
            "stable": {**revision, "version": "v7", "promotedAt": NOW},
            "candidate": {
                **revision,
                "version": "v8",
                "weight": 5,
                "step": 0,
                "startedAt": NOW,
                "stepStartedAt": NOW,
            },
        },
    )

    def table(*arguments: str) -> list[str]:
        shown = crds.kubectl("get", "-n", namespace, *arguments).stdout
        return [" ".join(line.split()) for line in shown.splitlines()]

    header, row = table("pp")
    assert header == "NAME OWNER STABLE CANDIDATE WEIGHT PHASE HIT-RATE AGE"
    assert row.startswith("p platform v7 v8 5 Progressing 98% ")
    wide_header, wide_row = table("pp", "-o", "wide")
    assert wide_header.endswith(" MESSAGE")
    assert wide_row.endswith(" v8 gets 5 %.")
    header, row = table("cw")
    assert header == "NAME PREFIX SCHEDULE NEXT SPENT READY AGE"
    assert row.startswith("w p ")
    names = crds.kubectl("get", "headwater", "-n", namespace, "-o", "name").stdout.split()
    assert names == ["cachewarmer.headwater.dev/w", "promptprefix.headwater.dev/p"]


def test_the_api_server_fills_in_the_defaults_of_the_models(
    apply: Apply, crds: Cluster, namespace: str
) -> None:
    """What the cluster holds and what the model assumes are the same."""
    apply(changed(PREFIX, {"spec.rollout": {"analysis": {}}}))
    stored = PromptPrefix.model_validate(crds.get("pp", "p", "-n", namespace))
    assert stored.spec == PromptPrefix.model_validate(PREFIX).spec


TEXT = 'line one\r\ntrailing blanks  \r\n\ttab, cafe\u0301, é, 😀, \u2028, \\ and "quotes"\n\n'
MANIFEST = (
    """\
apiVersion: headwater.dev/v1alpha1
kind: PromptPrefix
metadata: {name: bytes}
spec:
  owner: {team: platform}
  version: v1
  digest: ""
  models: [claude-opus-5]
  consumers: {namespaceSelector: {}}
  content:
    tools:
      - name: t
        input_schema: {on: yes, "off": 1.0, mode: 0o14, old: 012, big: 1e3, when: 2026-11-21, n: 12:30}
    system:
      - text: |
          # Literal BLANKS

            indented

      - text: >
          folded
          text

          é e\u0301 😀
      - text: """
    + json.dumps(TEXT).replace("\\ud83d\\ude00", "😀")
    + "\n"
)  # fmt: skip


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_the_digest_is_that_of_what_the_api_server_holds(
    newline: str, crds: Cluster, namespace: str, tmp_path: Path
) -> None:
    """From the file through kubectl to the cluster and back not one byte is another."""
    path = tmp_path / "prefix.yaml"
    path.write_bytes(MANIFEST.replace(" BLANKS", "  ").replace("\n", newline).encode())
    assert CliRunner().invoke(main, ["digest", "--write", "-f", str(path)]).exit_code == 0
    crds.kubectl("apply", "-n", namespace, "-f", str(path))
    prefix = PromptPrefix.model_validate(crds.get("pp", "bytes", "-n", namespace))
    stored = resolve(prefix.spec.content, lambda _: None, ttl="5m", provider="anthropic")
    assert digest_of(stored) == prefix.spec.digest
    assert stored.system[2]["text"] == TEXT
    assert stored.tools[0]["input_schema"] == {
        "true": True,
        "off": 1,
        "mode": 12,
        "old": 10,
        "big": 1000,
        "when": "2026-11-21",
        "false": "12:30",
    }


PLAIN = """
yes Yes YES yEs y Y on On oN no No n N off true TRUE tRUE false null Null NULL nULL ~ = <<
0 -0 00 -00 12 +12 -12 012 -012 08 09.5 007 0o14 -0o14 0O17 0o8 0o 0x1F 0X1f -0x1f +0x1F 0x 00x1
0b11 0B11 -0b11 0b 0b12 1_000 1_ 1__2 _1 -1_0 0_7 0x_1F 1e3 1E3 1.0e+3 1e-3 1E-2 +1e2 1.e3 1e1_0
1.0 1.10 1.5 .5 5. -.5 +.5 -1. 0.1 .5e3 .5_0 ._5 ..5 . - + 1.2.3 -0.0 0.0 0e0 1e 1e400 1e20 1e21
1e22 3.141592653589793238 123456789012.5 6.02e23 9007199254740991 -9007199254740991
12:30 1:2 190:20:30 190:20:30.15 2026-11-21 2026-11-21T07:00:00Z a:b a#b ?x http://x/y
"""
STYLED = [
    '"a\\tb \\x41 \\u00e9 \\U0001F600 \\0\\a\\b\\e\\f\\v\\N\\_\\L\\P"',
    "'it''s \\n'",
    '"yes"',
    "'012'",
    "!!str 12",
    "|\n  a\n   b\n\n  \tc  \n",
    "|+\n  a\n\n",
    "|-\n  a\n\n",
    "|2\n    deep\n  x\n",
    ">\n  a\n  b\n\n  c\n   d\n  e\n",
    ">-\n  a\n\n",
    '"a\n  b\n\n  c\\\n  d  "',
    "a\n  b",
    '"a\u2028b\ufeffc\u00a0d"',
    "a # comment",
    "{y: 1, n: 2, 12: 3, 0x10: 4, 2026-11-21: 5}",
    "{a: &a {x: 1, z: 2}, b: {<<: *a, z: 3}, c: {z: 3, <<: *a}, d: {<<: [{x: 7}, *a]}, e: *a}",
    "[a, 'b', {c: d}, 1, yes, ]",
    "{a: , b: }",
    "",
]


def test_yaml_is_read_as_kubectl_reads_it(control_plane: Cluster, tmp_path: Path) -> None:
    """Every trap of YAML 1.1 and 1.2, one by one, against kubectl itself."""
    head = "apiVersion: headwater.dev/v1alpha1\nkind: PromptPrefix\nmetadata: {name: p}\nvalues:\n"
    path = tmp_path / "traps.yaml"
    lines = [f"- {value}\n" for value in [*PLAIN.split(), *STYLED]]
    path.write_text(head + "".join(lines))
    sent = json.loads(
        control_plane.kubectl(
            *("create", "--dry-run=client", "--validate=false", "-o", "json", "-f", str(path))
        ).stdout
    )["values"]
    (node,) = compose(path.read_text(), "traps.yaml")
    read = value_of(node, "traps.yaml")["values"]
    different = [
        (line, theirs, ours)
        for line, theirs, ours in zip(lines, sent, read, strict=True)
        if json.dumps(theirs, sort_keys=True) != json.dumps(ours, sort_keys=True)
    ]
    assert not different


@pytest.mark.parametrize("example", ["quickstart", "kustomize", "lint/before", "lint/after"])
def test_the_examples_are_taken(example: str, crds: Cluster, namespace: str) -> None:
    """Strictly and without a warning; here in a namespace of the test's own."""
    directory = ROOT / "examples" / example
    if example == "kustomize":
        manifests = crds.kubectl("kustomize", str(directory)).stdout
    else:
        manifests = "---\n".join(path.read_text() for path in sorted(directory.glob("*.yaml")))
    for name in ("ai-platform", "support", "it-operations"):
        manifests = manifests.replace(f"namespace: {name}\n", f"namespace: {namespace}\n")
        manifests = manifests.replace(f"  name: {name}\n", f"  name: {namespace}-{name}\n")
    done = crds.kubectl(
        *("apply", "--server-side", "--dry-run=server", "--warnings-as-errors", "-f", "-"),
        input=manifests,
    )
    assert done.stderr == ""
    assert "promptprefix.headwater.dev/" in done.stdout


def test_the_kustomize_example_declares_the_digest_of_what_is_built(
    control_plane: Cluster,
) -> None:
    """Markdown and JSON go through kustomize into ConfigMaps, and the digest is theirs."""
    directory = f"{ROOT}/examples/kustomize"
    built = control_plane.kubectl("kustomize", directory).stdout
    done = CliRunner().invoke(
        main,
        ["digest", "--check", "-f", "-", "-f", f"{directory}/prompt-prefix.yaml"],
        input=built,
    )
    assert (done.exit_code, done.stderr) == (0, "")
    assert "release-notes 2026.11.1" in done.stdout
