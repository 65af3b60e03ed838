"""The Grafana dashboard, as a list of what it asks; the rest of its JSON follows."""

from dataclasses import dataclass
from typing import Any, Final

_WIDTH: Final = 12
_HEIGHT: Final = 8
_SELECTED: Final = 'prefix=~"$prefix",team=~"$team"'


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines over time: what is asked, and how each line is called."""

    title: str
    unit: str
    expression: str
    legend: str
    about: str


def _share(part: str, whole: str, by: str) -> str:
    return f"sum by ({by}) (rate({part})) / sum by ({by}) (rate({whole}))"


def _requests(matchers: str) -> str:
    return f"headwater_requests_total{{{_SELECTED},{matchers}}}[$__rate_interval]"


def _quantile(metric: str, by: str) -> str:
    rate = f"rate({metric}_bucket{{{_SELECTED}}}[$__rate_interval])"
    return f"histogram_quantile(0.95, sum by (le, {by}) ({rate}))"


PANELS: Final = (
    Panel(
        "Hit rate by version",
        "percentunit",
        _share(
            _requests('eligible="true",outcome="hit"'),
            _requests('eligible="true",outcome=~"hit|miss"'),
            "prefix, version",
        ),
        "{{prefix}} {{version}}",
        "Of the requests that a warm lane should answer: what a canary is judged by.",
    ),
    Panel(
        "Hit rate by team",
        "percentunit",
        _share(
            _requests('eligible="true",outcome="hit"'),
            _requests('eligible="true",outcome=~"hit|miss"'),
            "team, surface",
        ),
        "{{team}}/{{surface}}",
        "The same, by who sends.",
    ),
    Panel(
        "Requests",
        "reqps",
        "sum by (version, outcome)"
        f" (rate(headwater_requests_total{{{_SELECTED}}}[$__rate_interval]))",
        "{{version}} {{outcome}}",
        "How they ended. A candidate's share rises with its weight.",
    ),
    Panel(
        "Contract violations",
        "short",
        "sum by (team, surface, reason)"
        f" (increase(headwater_contract_violations_total{{{_SELECTED}}}[$__rate_interval]))",
        "{{team}}/{{surface}} {{reason}}",
        "Requests that would have broken the shared prefix.",
    ),
    Panel(
        "Uncached system text as long as the contract",
        "short",
        "sum by (team, surface, prefix)"
        f" (increase(headwater_uncached_system_total{{{_SELECTED}}}[$__rate_interval]))",
        "{{team}}/{{surface}} {{prefix}}",
        "Requests that may hold a copy of the contract, paid for beside it.",
    ),
    Panel(
        "Prompt tokens by how they were billed",
        "short",
        f"sum by (kind) (rate(headwater_input_tokens_total{{{_SELECTED}}}[$__rate_interval]))",
        "{{kind}}",
        "The kinds are disjoint: their sum is the whole.",
    ),
    Panel(
        "Cost",
        "currencyUSD",
        f"sum by (team) (increase(headwater_cost_usd_total{{{_SELECTED}}}[1h]))",
        "{{team}}",
        "What is billed an hour, as far as prices are known (headwater_unpriced_answers_total).",
    ),
    Panel(
        "Saved by caching",
        "currencyUSD",
        f"sum by (prefix) (delta(headwater_savings_usd_total{{{_SELECTED}}}[1h]))",
        "{{prefix}}",
        "An hour, against what applications would have sent, uncached; negative where that is"
        " cheaper.",
    ),
    Panel(
        "Time to first byte, 95th percentile",
        "s",
        _quantile("headwater_time_to_first_byte_seconds", "version"),
        "{{version}}",
        "From a request's arrival at the sidecar, waiting for a cold lane included.",
    ),
    Panel(
        "The sidecars' own time, 95th percentile",
        "s",
        _quantile("headwater_overhead_seconds", "namespace"),
        "{{namespace}}",
        "What a sidecar adds before it sends.",
    ),
    Panel(
        "Pods by version",
        "short",
        'sum by (prefix, version, role) (headwater_bundle_info{prefix=~"$prefix"})',
        "{{prefix}} {{version}} {{role}}",
        "What their bundles hold.",
    ),
    Panel(
        "Bundles refused",
        "short",
        'sum by (namespace, workload) (1 - headwater_bundle_verified{prefix=~"$prefix"})',
        "{{namespace}}/{{workload}}",
        "Pods that do not take what they mount.",
    ),
    Panel(
        "Prefixes by phase",
        "short",
        'sum by (phase) (headwater_prefix_phase{prefix=~"$prefix"})',
        "{{phase}}",
        "Where they stand: AwaitingApproval, RolledBack and Degraded wait for somebody.",
    ),
    Panel(
        "Webhook",
        "reqps",
        "sum by (webhook, outcome) (rate(headwater_webhook_reviews_total[$__rate_interval]))",
        "{{webhook}} {{outcome}}",
        "Admission reviews by what became of them.",
    ),
)


def dashboard() -> dict[str, Any]:
    """What Grafana imports."""
    return {
        "uid": "headwater",
        "title": "Headwater",
        "tags": ["headwater"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                _variable("prefix"),
                _variable("team"),
            ]
        },
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _variable(label: str) -> dict[str, Any]:
    return {
        "name": label,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": f"label_values(headwater_requests_total, {label})",
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, 2)
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": source,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {
                "refId": "A",
                "datasource": source,
                "expr": panel.expression,
                "legendFormat": panel.legend,
            }
        ],
    }
