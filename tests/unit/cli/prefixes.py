"""Prefixes as the API server holds them, with handwritten statuses, and a clock to read by."""

from datetime import UTC, datetime
from typing import Any, Final

from headwater.contract.content import Content, canonical_bytes, content
from headwater.contract.digest import Digest

NOW: Final = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
MODEL: Final = "claude-opus-4-8"
OTHER_MODEL: Final = "claude-haiku-4-5"

TOOLS: Final[list[dict[str, Any]]] = [
    {"name": "search", "description": "Searches the articles.", "input_schema": {"type": "object"}},
    {"name": "ticket", "description": "Opens a ticket.", "input_schema": {"type": "object"}},
]
V1: Final[dict[str, Any]] = {
    "tools": TOOLS,
    "system": [
        {"text": "You are the help desk.\n" * 400},
        {"text": "Answer in one sentence.\nName the article that you took it from.\n"},
    ],
}
V2: Final[dict[str, Any]] = {
    "tools": TOOLS,
    "system": [
        V1["system"][0],
        {"text": "Answer in two sentences.\nName the article that you took it from.\n"},
    ],
}


def contract(source: dict[str, Any]) -> Content:
    return content(tools=source["tools"], system=source["system"], ttl="5m")


BYTES: Final = {"v1": canonical_bytes(contract(V1)), "v2": canonical_bytes(contract(V2))}
DIGESTS: Final = {version: Digest.of(data) for version, data in BYTES.items()}


def body(
    *,
    version: str = "v2",
    spec: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    namespace: str = "ai-platform",
) -> dict[str, Any]:
    """A prefix `help-desk` that declares one of the two versions."""
    return {
        "apiVersion": "headwater.dev/v1alpha1",
        "kind": "PromptPrefix",
        "metadata": {"name": "help-desk", "namespace": namespace, "generation": 3},
        "spec": {
            "owner": {"team": "ai-platform", "contact": "#ai-platform"},
            "version": version,
            "digest": DIGESTS[version],
            "models": [MODEL, OTHER_MODEL],
            "content": {"v1": V1, "v2": V2}[version],
            "consumers": {"namespaceSelector": {}},
            "rollout": {
                "steps": [
                    {"setWeight": 10},
                    {"pause": {"duration": "10m"}},
                    {"setWeight": 50},
                    {"pause": {}},
                ],
                "approval": "Required",
                "analysis": {
                    "queries": [{"name": "p95", "promql": "x", "max": 0.5, "failureLimit": 2}]
                },
            },
            **(spec or {}),
        },
        "status": {"observedGeneration": 3, "epoch": 4, **(status or {})},
    }


STABLE: Final[dict[str, Any]] = {
    "version": "v1",
    "digest": DIGESTS["v1"],
    "configMap": f"headwater.help-desk.{DIGESTS['v1'].short}",
    "promotedAt": "2026-11-18T11:00:00Z",
    "hitRate": "98%",
}
CANDIDATE: Final[dict[str, Any]] = {
    "version": "v2",
    "digest": DIGESTS["v2"],
    "configMap": f"headwater.help-desk.{DIGESTS['v2'].short}",
    "weight": 10,
    "step": 0,
    "startedAt": "2026-11-21T11:40:00Z",
    "stepStartedAt": "2026-11-21T11:40:00Z",
    "clockFrom": "2026-11-21T11:40:00Z",
    "heardAt": "2026-11-21T11:59:00Z",
}
HISTORY: Final[list[dict[str, Any]]] = [
    {
        "version": "v1",
        "digest": DIGESTS["v1"],
        "event": "FirstVersion",
        "reason": "v1 is served to everyone: the first version",
        "by": "kubectl",
        "at": "2026-11-18T11:00:00Z",
    },
    {
        "version": "v2",
        "digest": DIGESTS["v2"],
        "event": "CanaryStarted",
        "reason": "v2 is tried",
        "at": "2026-11-21T11:40:00Z",
    },
    {
        "version": "v2",
        "digest": DIGESTS["v2"],
        "event": "WeightRaised",
        "reason": "10%: the first step",
        "at": "2026-11-21T11:40:00Z",
    },
]
PUBLISHED: Final = [{"version": version, "digest": digest} for version, digest in DIGESTS.items()]

PROGRESSING: Final = body(
    status={
        "phase": "Progressing",
        "message": f"v2 at 10%: on {OTHER_MODEL} no eligible request yet",
        "stable": STABLE,
        "candidate": {
            **CANDIDATE,
            "verdict": {
                "result": "Waiting",
                "reason": f"on {OTHER_MODEL} no eligible request yet",
                "at": "2026-11-21T11:40:00Z",
            },
            "evidence": [
                {
                    "model": MODEL,
                    "hits": 148,
                    "misses": 2,
                    "answers": 180,
                    "errors": 1,
                    "stable": {"hits": 1470, "misses": 30, "answers": 1600, "errors": 4},
                }
            ],
            "queries": [
                {"name": "p95", "failures": 1, "value": "0.42", "at": "2026-11-21T11:59:30Z"}
            ],
        },
        "retained": [
            {"version": "v0", "digest": "sha256:" + "0" * 64, "until": "2026-11-21T12:05:00Z"}
        ],
        "history": HISTORY,
        "published": PUBLISHED,
        "consumers": {"namespaces": 12, "pods": 340},
        "conditions": [
            {
                "type": "Cacheable",
                "status": "Unknown",
                "observedGeneration": 3,
                "lastTransitionTime": "2026-11-18T11:00:00Z",
                "reason": "NearMinimum",
                "message": f"too near the minimum for an estimate: {OTHER_MODEL} has about 2,470"
                " tokens of at least 4,096",
            }
        ],
    }
)
ROLLED_BACK: Final = body(
    status={
        "phase": "RolledBack",
        "message": "v2 went back",
        "stable": STABLE,
        "rolledBack": {
            "version": "v2",
            "digest": DIGESTS["v2"],
            "retry": 0,
            "reason": f"on {MODEL} 3 of 60 eligible requests read the cache (5%); that is below the"
            " floor of 90%, with 99% confidence",
            "at": "2026-11-21T11:50:00Z",
        },
        "history": [
            *HISTORY,
            {
                "version": "v2",
                "digest": DIGESTS["v2"],
                "event": "HitRateBelowFloor",
                "reason": f"on {MODEL} 3 of 60 eligible requests read the cache (5%); that is below"
                " the floor of 90%, with 99% confidence",
                "at": "2026-11-21T11:50:00Z",
            },
        ],
        "published": PUBLISHED,
        "consumers": {"namespaces": 1},
    }
)
SETTLED: Final = body(
    version="v1",
    status={
        "phase": "Stable",
        "message": "v1 is stable",
        "stable": STABLE,
        "history": HISTORY[:1],
        "published": PUBLISHED[:1],
        "consumers": {"namespaces": 12},
    },
)
UNSEEN: Final = body(version="v1")
