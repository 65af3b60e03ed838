"""What is refused before a Prometheus is asked, and how queries are filled in."""

import pytest

from headwater.evidence.prometheus import Prometheus
from headwater.evidence.queries import fill


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "is no address"),
        ("prometheus:9090", "is no address"),
        ("prometheus.monitoring.svc", "is no address"),
        ("ftp://prometheus", "is no address"),
        ("http://", "is no address"),
        ("http://me:secret@prometheus", "use a token file"),
        ("http://prometheus/api?tenant=a", "leave out all from"),
        ("http://prometheus/#graph", "leave out all from"),
    ],
)
def test_urls_that_could_not_work(url: str, why: str) -> None:
    """Refused at the start, without telling what may be secret."""
    with pytest.raises(ValueError, match=why) as refused:
        Prometheus(url)
    assert "secret" not in str(refused.value)


def filled(promql: str, **values: str) -> str:
    given = {"namespace": "ai-platform", "prefix": "help-desk", "digest12": "0123456789ab"}
    return fill(promql, **(given | values))


@pytest.mark.parametrize(
    ("promql", "result"),
    [
        ("up", "up"),
        ('m{d="{{digest12}}"}', 'm{d="0123456789ab"}'),
        ('m{n="{{ namespace }}",p="{{prefix}}"}', 'm{n="ai-platform",p="help-desk"}'),
        ("{{prefix}}{{prefix}}", "help-deskhelp-desk"),
        ('{__name__="m",d=~"{{digest12}}|"}', '{__name__="m",d=~"0123456789ab|"}'),
    ],
)
def test_placeholders(promql: str, result: str) -> None:
    """They stand for the candidate's own values; everything else stays as it is."""
    assert filled(promql) == result


@pytest.mark.parametrize(
    ("promql", "values", "why"),
    [
        ("m{{digest}}", {}, r"has \{\{digest\}\}, and there are only \{\{namespace\}\}"),
        ("m{{}}", {}, "there are only"),
        ("up", {"prefix": 'a"} or up{a="'}, "is no prefix of ours"),
        ("up", {"namespace": "a\\"}, "is no namespace of ours"),
        ("up", {"digest12": "0123456789AB"}, "is no digest12 of ours"),
        ("up", {"prefix": ""}, "is no prefix of ours"),
        ("up", {"prefix": "a\n"}, "is no prefix of ours"),
    ],
)
def test_what_is_not_filled_in(promql: str, values: dict[str, str], why: str) -> None:
    """A typing error is told, and no value can end the string that it stands in."""
    with pytest.raises(ValueError, match=why):
        filled(promql, **values)
