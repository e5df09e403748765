"""FastMCP's own tests of tasks, run by `scripts/fastmcp-suite` on both engines; and the comparison itself."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fastmcp_suite.comparison import compare, expected_differences
from tests.fastmcp_suite.run import Outcome

ROOT = Path(__file__).parents[2]
CANNOT_RUN = 77  # the script's exit code where FastMCP's tests cannot be had
GOOD, BAD = Outcome(passed=True, tasks=1), Outcome(passed=False, reason="AssertionError")


def report_of_a_run(file: Path) -> dict[str, Any]:
    """The comparison of a run of both engines."""
    command = [sys.executable, "-m", "tests.fastmcp_suite", "--report", str(file)]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=580, check=False
    )
    print(done.stdout)
    if done.returncode == CANNOT_RUN:
        if os.environ.get("CI"):
            pytest.fail(f"FastMCP's tests must run in CI, and could not:\n{done.stdout}")
        pytest.skip(f"FASTMCP'S TESTS DID NOT RUN: {done.stdout.strip()}")
    assert file.exists(), f"the run ended early, with exit code {done.returncode}:\n{done.stdout}"
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_taskmill_differs_from_docket_only_where_a_reason_says_so(tmp_path: Path) -> None:
    report = report_of_a_run(tmp_path / "report.json")

    assert report["unexpected"] == {}
    assert report["stale"] == []
    assert report["missing"] == []
    assert report["neither"] == []
    assert report["both"] >= 340
    assert report["reached"] >= 150, "many of FastMCP's tests need no engine; so many have to make tasks on ours"


class TestComparison:
    def test_a_test_that_fails_on_taskmill_alone_is_unexpected(self) -> None:
        found = compare({"a": GOOD, "b": GOOD}, {"a": GOOD, "b": BAD}, {})

        assert (found.unexpected, found.is_as_expected) == ({"b": "AssertionError"}, False)

    def test_a_listed_test_that_passes_is_stale_and_so_is_one_that_does_not_exist(self) -> None:
        found = compare({"a[x]": GOOD}, {"a[x]": GOOD}, {"a[*]": "a reason", "gone": "a reason"})

        assert (found.stale, found.is_as_expected) == (["a[*]", "gone (no such test)"], False)

    def test_a_listed_test_that_fails_is_expected_with_its_reason(self) -> None:
        found = compare({"a[x]": GOOD, "b": GOOD}, {"a[x]": BAD, "b": GOOD}, {"a[*]": "a reason"})

        assert (found.expected, found.is_as_expected) == ({"a[x]": "a reason"}, True)

    def test_tests_that_ran_on_one_engine_alone_are_not_passed_over(self) -> None:
        found = compare({"a": GOOD, "b": GOOD}, {"a": GOOD}, {})

        assert (found.missing, found.is_as_expected) == (["b"], False)

    def test_every_difference_has_a_reason(self) -> None:
        assert all(reason.strip() for reason in expected_differences().values())
