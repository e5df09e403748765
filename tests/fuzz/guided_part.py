"""The part `guided`: every decoder under atheris, each in its own process. Not in CI: it has wheels for some systems.

Where it cannot be installed it says so loudly; the same decoders are driven by Hypothesis in the part `decoders`.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz.decoders import DECODERS
from tests.fuzz.report import KEPT, Report

__all__ = ["attack_guided"]

_ROOT = Path(__file__).parents[2]
_ASIDE = _ROOT / ".venv-atheris"
_UNITS = re.compile(r"number_of_executed_units:\s+(\d+)")
_COVERED = re.compile(r"cov: (\d+)")
_LONGEST = 20_000


def attack_guided(runs: int, *, seconds: int) -> Report:
    """So many runs of each decoder, or so many seconds of it, whichever ends first."""
    report = Report("guided")
    begun = time.perf_counter()
    if why := _missing():
        report.notes.append(f"!!! DID NOT RUN: {why}. The part `decoders` drives the same decoders.")
        return report
    for name in DECODERS:
        _drive(report, name, runs, seconds)
    report.seconds = time.perf_counter() - begun
    return report


def _missing() -> str:
    """Why there is no atheris here, '' if there is."""
    made = subprocess.run(
        [_ROOT / "scripts" / "aside", _ASIDE.name, "constraints/atheris.txt"],
        capture_output=True, text=True, check=False, cwd=_ROOT,
    )  # fmt: skip
    if made.returncode == 0:
        return ""
    last = (made.stderr.strip().splitlines() or ["no reason given"])[-1]
    return f"atheris cannot be installed for Python {sys.version_info[0]}.{sys.version_info[1]} here ({last})"


def _drive(report: Report, name: str, runs: int, seconds: int) -> None:
    slug = name.replace(" ", "-")
    corpus = KEPT / "corpus" / slug
    corpus.mkdir(parents=True, exist_ok=True)
    for number, sample in enumerate(DECODERS[name].samples):
        (corpus / f"sample-{number}").write_bytes(sample)
    limits = [f"-runs={runs}", f"-max_total_time={seconds}", f"-max_len={_LONGEST}", "-timeout=10"]
    words = ["-print_final_stats=1", f"-artifact_prefix={KEPT}/{slug}-", str(corpus)]
    (packages,) = _ASIDE.glob("lib/python*/site-packages")
    run = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.guided", name, *limits, *words],
        env={**os.environ, "PYTHONPATH": f"{_ROOT}{os.pathsep}{packages}"},
        capture_output=True, text=True, errors="replace", check=False, cwd=_ROOT,
    )  # fmt: skip
    told = run.stdout + run.stderr
    units, covered = (int((number.findall(told) or ["0"])[-1]) for number in (_UNITS, _COVERED))
    report.examples += units
    report.notes.append(f"{name}: {units:,} runs, {covered} branches")
    if run.returncode:
        report.found([f"{name}: exit code {run.returncode}"], told[-4000:])
