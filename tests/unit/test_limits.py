"""No limit in the tests may break on a busy machine: each is scaled (`tests.cluster.waiting`)."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FOLDERS: Final = ("tests", "demo")
OWN_SCALE: Final = {"wait_until", "eventually", "run_cronjob_now", "run_pod_of_job"}
"""They scale what they are given, or the limit is what the test is about."""
SHORTEST: Final = 1.0
"""What is shorter is meant to pass: nobody takes it for a limit."""


def limits(tree: ast.AST) -> Iterator[tuple[int, float]]:
    """Yield each number that limits how long something may take, with its line."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        name = getattr(call.func, "attr", None) or getattr(call.func, "id", "")
        given = [
            word.value for word in call.keywords if word.arg in ("timeout", "_request_timeout")
        ]
        if name in ("timeout", "wait") and len(call.args) == 1:
            given += call.args
        if name == "wait_for" and len(call.args) == 2:
            given += call.args[1:]
        if name in OWN_SCALE | {"with_options"}:
            continue
        for each in given:
            if isinstance(each, ast.Constant) and isinstance(each.value, int | float):
                yield each.lineno, each.value


def test_every_limit_is_scaled() -> None:
    """`timeout=scaled(30)`: how long that is depends on how slow the machine is."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {seconds}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, seconds in limits(ast.parse(path.read_text()))
        if seconds >= SHORTEST
    ]
    assert found == []


def test_a_bare_number_is_found() -> None:
    """In each way in which a limit is written."""
    source = """
run(["a"], timeout=5)
process.wait(20)
asyncio.timeout(3)
await asyncio.wait_for(event.wait(), 2)
client._request_timeout(x, _request_timeout=7)
pytest.mark.timeout(9)
run(["a"], timeout=scaled(5))
wait_until(there, timeout=4)
asyncio.timeout(0.05)
"""
    assert sorted(seconds for _, seconds in limits(ast.parse(source))) == [0.05, 2, 3, 5, 7, 9, 20]
