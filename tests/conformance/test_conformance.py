"""The official conformance suite, run by `scripts/conformance` against a real `taskmill run` process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CANNOT_RUN = 77  # the script's exit code where Node or npm cannot be had

pytestmark = [pytest.mark.conformance, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The counts of one run of everything."""
    file = tmp_path_factory.mktemp("conformance") / "report.json"
    command = [sys.executable, str(ROOT / "scripts" / "conformance"), "--report", str(file)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=840, check=False
    )
    print(done.stdout)
    if done.returncode == CANNOT_RUN:
        if os.environ.get("CI"):
            pytest.fail(f"The conformance suite must run in CI, and could not:\n{done.stdout}")
        pytest.skip(f"THE OFFICIAL CONFORMANCE SUITE DID NOT RUN: {done.stdout.strip()}")
    assert file.exists(), f"the run ended early, with exit code {done.returncode}:\n{done.stdout}"
    counts: dict[str, Any] = json.loads(file.read_text())
    return counts


def test_every_tasks_scenario_passes(report: dict[str, Any]) -> None:
    tasks = report["tasks"]
    assert (tasks["scenarios"], tasks["passed"], tasks["failing"]) == (10, 10, [])
    # Fewer checks than the best published server reaches (43 passed, 1 failed) would mean that some were not made.
    assert tasks["checks"].get("FAILURE", 0) == 0
    assert tasks["checks"]["SUCCESS"] >= 44


def test_every_scenario_that_2026_07_28_requires_passes(report: dict[str, Any]) -> None:
    required = report["2026-07-28"]
    assert (required["scenarios"], required["passed"], required["failing"]) == (37, 37, [])


def test_every_scenario_that_2025_11_25_requires_passes(report: dict[str, Any]) -> None:
    required = report["2025-11-25"]
    assert (required["scenarios"], required["passed"]) == (30, 30)
