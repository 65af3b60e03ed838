"""What `make test RUNS=n` says of its runs."""

import pytest

from tests import repeat

REPORT = """<testsuites><testsuite>
<testcase classname="tests.a" name="test_good" time="0.5" />
<testcase classname="tests.a" name="test_{bad}" time="{seconds}"><failure message="x" /></testcase>
<testcase classname="tests.b" name="test_left_out" time="0.0"><skipped /></testcase>
<testcase classname="tests.b" name="test_without_fixture" time="0.1"><error /></testcase>
</testsuite></testsuites>"""


def test_each_test_that_failed_is_named_with_its_runs() -> None:
    """Errors of fixtures count, tests that are left out do not; the slowest stand by the median."""
    reports = [REPORT.format(bad="bad", seconds=seconds) for seconds in (1, 9, 3)]
    reports[1] = REPORT.format(bad="worse", seconds=2)
    runs = [repeat.Run(1, 60.0, [*repeat.tests_in(report)]) for report in reports]
    said = [*repeat.summary([*runs, repeat.Run(0, 59.0, [])])]
    assert said[0] == "run  1    60.0 s  2 passed, 2 failed, pytest ended with 1"
    assert said[3] == "run  4    59.0 s  0 passed, 0 failed"
    assert "3 of 5 tests did not always pass:" in said
    assert "  2 of 4 (run 1, 3)  tests.a::test_bad" in said
    assert "  1 of 4 (run 2)  tests.a::test_worse" in said
    assert "  3 of 4 (run 1, 2, 3)  tests.b::test_without_fixture" in said
    assert said[-5:-3] == ["     2.0  tests.a::test_bad", "     2.0  tests.a::test_worse"]


def test_it_fails_where_one_run_does(capfd: pytest.CaptureFixture[str]) -> None:
    """A run without a report, as after a wrong option, is a failure, too."""
    assert repeat.main(["2", "--no-such-option"]) == 1
    assert "run 2 of 2: pytest --no-such-option" in capfd.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["0"], ["many"]])
def test_a_wrong_number_is_told_how_to_write_it(arguments: list[str]) -> None:
    """As any command does."""
    with pytest.raises(SystemExit, match=r"usage: python -m tests\.repeat RUNS"):
        repeat.main(arguments)
