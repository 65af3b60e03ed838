"""`headwater get`: what a person sees of a prefix, to the letter."""

# ruff: noqa: E501 - what is printed stands as it is
import copy

import pytest

from headwater.cli.get import tree
from tests.unit.cli.conftest import Printed
from tests.unit.cli.prefixes import NOW, PROGRESSING, ROLLED_BACK, SETTLED, UNSEEN, body

PROGRESSING_AT_80 = """\
help-desk  Progressing  of ai-platform (#ai-platform)
v2 at 10%: on claude-haiku-4-5 no eligible request yet
├── stable     v1  e5062fb7a683  since 3d, 98% hits
├── candidate  v2  97143cb605c3  10% of new conversations, step 1 of 4: 10%,
│   since 20m
│   ├── claude-opus-4-8  148 hits, 2 misses, 1 error
│   │   ├── enough evidence that it is above the floor of 90%
│   │   └── no evidence that it is more than 2 points above stable's, which is
│   │       at most 1.2%
│   ├── claude-haiku-4-5  no eligible request yet
│   └── query p95  answered 0.42, 1 failed
├── retained   v0  000000000000  for another 5m
└── consumers  12 namespaces, 340 pods
"""
PROGRESSING_WIDE = """\
ai-platform/help-desk  Progressing  of ai-platform (#ai-platform)
v2 at 10%: on claude-haiku-4-5 no eligible request yet
├── stable     v1  sha256:e5062fb7a68303208e16636c06ad197e3f6838b35d9e82cf4223d0f06aade140  since 2026-11-18 11:00:00Z (3d), 98% hits
├── candidate  v2  sha256:97143cb605c3e7cfde50376bb297a24d50e97ae1947002cc38f17c9c2f3197d0  10% of new conversations, step 1 of 4: 10%, since 2026-11-21 11:40:00Z (20m)
│   ├── claude-opus-4-8  148 hits, 2 misses, 1 error
│   │   ├── enough evidence that it is above the floor of 90% (e-value against it 0.0078 of 800, for it 2,760 of 20)
│   │   └── no evidence that it is more than 2 points above stable's, which is at most 1.2% (e-value against it 0.0047 of 1,600)
│   ├── claude-haiku-4-5  no eligible request yet
│   └── query p95  answered 0.42, 1 failed
├── retained   v0  sha256:0000000000000000000000000000000000000000000000000000000000000000  for another 5m
└── consumers  12 namespaces, 340 pods
"""
ROLLED_BACK_AT_80 = """\
help-desk  RolledBack  of ai-platform (#ai-platform)
v2 went back
├── stable     v1  e5062fb7a683  since 3d, 98% hits
├── went back  v2  97143cb605c3  since 10m: on claude-opus-4-8 3 of 60 eligible
│   requests read the cache (5%); that is below the floor of 90%, with 99%
│   confidence
└── consumers  1 namespace
"""
ROLLED_BACK_AT_120 = """\
help-desk  RolledBack  of ai-platform (#ai-platform)
v2 went back
├── stable     v1  e5062fb7a683  since 3d, 98% hits
├── went back  v2  97143cb605c3  since 10m: on claude-opus-4-8 3 of 60 eligible requests read the cache (5%); that is
│   below the floor of 90%, with 99% confidence
└── consumers  1 namespace
"""
SETTLED_AT_80 = """\
help-desk  Stable  of ai-platform (#ai-platform)
v1 is stable
├── stable     v1  e5062fb7a683  since 3d, 98% hits
└── consumers  12 namespaces
"""
UNSEEN_AT_80 = """\
help-desk  Pending  of ai-platform (#ai-platform)
the controller has not looked at it yet: does it run?
├── stable     none
└── declared   v1  e5062fb7a683  not served yet
"""


def test_a_canary(printed: Printed) -> None:
    """Stable and candidate, each model's evidence in numbers and in words, and what it waits for."""
    assert printed(tree(PROGRESSING, NOW)) == PROGRESSING_AT_80


def test_wide_has_full_digests_times_and_e_values_and_breaks_no_line(printed: Printed) -> None:
    """However narrow the terminal is: what is to be copied stays in one piece."""
    assert printed(tree(PROGRESSING, NOW, wide=True, full_name=True), wide=True) == PROGRESSING_WIDE


def test_a_version_that_went_back(printed: Printed) -> None:
    """With its reason, in lines that fit."""
    assert printed(tree(ROLLED_BACK, NOW)) == ROLLED_BACK_AT_80
    assert printed(tree(ROLLED_BACK, NOW), 120) == ROLLED_BACK_AT_120


def test_nothing_is_going_on(printed: Printed) -> None:
    """Little to say, and little is said."""
    assert printed(tree(SETTLED, NOW)) == SETTLED_AT_80


def test_a_controller_that_has_not_looked(printed: Printed) -> None:
    """Nobody waits for nothing without being told."""
    assert printed(tree(UNSEEN, NOW)) == UNSEEN_AT_80


def test_a_change_that_the_controller_has_not_seen(printed: Printed) -> None:
    """The status is about an older spec, and says so."""
    newer = copy.deepcopy(SETTLED)
    newer["metadata"]["generation"] = 4
    assert "the newest change is not seen by the controller yet" in printed(tree(newer, NOW))


def test_what_objects_say_is_no_markup(printed: Printed) -> None:
    """Brackets, emoji codes and escapes come out as they went in."""
    odd = body(status={"phase": "Degraded", "message": "[red]x[/red] :warning: {a} [/]"})
    assert "[red]x[/red] :warning: {a} [/]" in printed(tree(odd, NOW))


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(printed: Printed, columns: int) -> None:
    """And none ends with blanks."""
    for prefix in (PROGRESSING, ROLLED_BACK):
        lines = printed(tree(prefix, NOW), columns).splitlines()
        assert all(len(line) <= columns and line == line.rstrip() for line in lines)
