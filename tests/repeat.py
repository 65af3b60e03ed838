"""Run the tests several times, and say which of them do not always pass.

    python -m tests.repeat RUNS [pytest's arguments]     (`make test RUNS=10`)

A test that fails once in fifty has a cause, and costs everyone whose change it stops. Each run is a
process of its own, as a run by hand is. The failures' full output stands where it was printed; at
the end stand the runs, each test that failed with the runs in which it did, and the slowest tests.
"""

import shlex
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final
from xml.etree import ElementTree as ET

SLOWEST: Final = 30
USAGE: Final = "usage: python -m tests.repeat RUNS [pytest's arguments]"


@dataclass(frozen=True)
class Test:
    """What became of a test in one run."""

    name: str
    seconds: float
    failed: bool


@dataclass(frozen=True)
class Run:
    """One run: pytest's exit code, its length in seconds, and its tests."""

    code: int
    seconds: float
    tests: Sequence[Test]

    @property
    def failed(self) -> list[str]:
        """The names of the tests that failed."""
        return [test.name for test in self.tests if test.failed]


def tests_in(report: str) -> Iterator[Test]:
    """Yield the tests of a report in JUnit's format."""
    for case in ET.fromstring(report).iter("testcase"):
        name = "::".join(part for part in (case.get("classname"), case.get("name")) if part)
        failed = case.find("failure") is not None or case.find("error") is not None
        yield Test(name, float(case.get("time", "0")), failed)


def summary(runs: Sequence[Run]) -> Iterator[str]:
    """Yield the lines that are printed at the end."""
    yield from (
        f"run {number:2}  {run.seconds:6.1f} s  {len(run.tests) - len(run.failed)} passed,"
        f" {len(run.failed)} failed" + (f", pytest ended with {run.code}" if run.code else "")
        for number, run in enumerate(runs, 1)
    )
    failures: dict[str, list[int]] = defaultdict(list)
    seconds: dict[str, list[float]] = defaultdict(list)
    for number, run in enumerate(runs, 1):
        for test in run.tests:
            seconds[test.name].append(test.seconds)
            if test.failed:
                failures[test.name].append(number)
    yield ""
    yield f"{len(failures)} of {len(seconds)} tests did not always pass" + ":" * bool(failures)
    for name, numbers in sorted(failures.items()):
        yield f"  {len(numbers)} of {len(runs)} (run {', '.join(map(str, numbers))})  {name}"
    yield ""
    yield "the slowest, by the median of their seconds:"
    yield from _slowest({name: median(each) for name, each in seconds.items()})


def _slowest(seconds: Mapping[str, float]) -> Iterable[str]:
    ranked = sorted(seconds.items(), key=lambda entry: -entry[1])
    return (f"  {each:6.1f}  {name}" for name, each in ranked[:SLOWEST])


def run_once(arguments: Sequence[str]) -> Run:
    """Run pytest once."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        command = [sys.executable, "-m", "pytest", *arguments, f"--junitxml={report}"]
        began = time.monotonic()
        code = subprocess.run(command, check=False).returncode
        seconds = time.monotonic() - began
        return Run(code, seconds, [*tests_in(report.read_text())] if report.exists() else [])


def main(arguments: Sequence[str]) -> int:
    """Run pytest as often as asked; return 1 where one of the runs did not end well."""
    if not arguments or not arguments[0].isdigit() or int(arguments[0]) < 1:
        sys.exit(USAGE)
    number, options = int(arguments[0]), arguments[1:]
    runs = []
    for count in range(1, number + 1):
        print(f"run {count} of {number}: pytest {shlex.join(options)}", flush=True)
        runs.append(run_once(options))
    print("", *summary(runs), sep="\n", flush=True)
    return 1 if any(run.code for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
