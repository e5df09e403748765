"""One run of FastMCP's tests on one engine, and what became of each test."""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

__all__ = ["ENGINES", "Engine", "Outcome", "run_suite"]

Engine = Literal["docket", "taskmill"]
ENGINES: tuple[Engine, ...] = ("docket", "taskmill")
PLUGIN = Path(__file__).parent / "plugin"


@dataclass(frozen=True)
class Outcome:
    """What became of a test, and whether it made tasks."""

    passed: bool
    reason: str = ""
    """The last line of why it failed."""
    tasks: int = 0
    """How many tasks it created on Taskmill; 0 on docket, where no one counts."""


def run_suite(engine: Engine, folder: Path, python: Path, chosen: Sequence[str], *, lanes: int) -> dict[str, Outcome]:
    """Run FastMCP's tests. `chosen`: paths below its folder, and options for pytest.

    Returns the outcome of each test by its id, as `tests/tasks/server/test_task_mount.py::TestX::test_y[z]`. A
    test that was skipped is not in it.
    """
    with tempfile.TemporaryDirectory(prefix="taskmill-suite-") as scratch:
        report = Path(scratch) / "report.xml"
        command = [python, "-m", "pytest", "-q", f"--numprocesses={lanes}", "-p", "no:cacheprovider"]
        command += ["-o", "pythonpath=", "-o", "junit_family=xunit1", f"--junitxml={report}", "--tb=short"]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "TMPDIR": scratch}
        if engine == "taskmill":
            command += ["-p", "taskmill_engine", "-o", "timeout=20"]
            environment["PYTHONPATH"] = str(PLUGIN)
        with (Path(scratch) / "output").open("w+") as output:
            subprocess.run([*command, *chosen], cwd=folder, env=environment, check=False, stdout=output, stderr=output)
            if not report.exists():
                output.seek(0)
                raise RuntimeError(f"FastMCP's tests did not run on {engine}:\n{output.read()[-4000:]}")
        return _outcomes(report)


def _outcomes(report: Path) -> dict[str, Outcome]:
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("skipped") is not None:
            continue
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        tasks = [one.get("value", "0") for one in case.iter("property") if one.get("name") == "tasks"]
        reason = "" if bad is None else (bad.get("message") or "").splitlines()[0] if bad.get("message") else "failed"
        outcome = Outcome(bad is None, reason[:200], sum(map(int, tasks)))
        name = _name_of(case)
        if name not in found or not outcome.passed:  # a test that fails in its teardown as well has two entries
            found[name] = outcome
    return found


def _name_of(case: ElementTree.Element) -> str:
    file, module = case.get("file", ""), case.get("classname", "")
    inside = module.removeprefix(file.removesuffix(".py").replace("/", ".")).strip(".")
    return "::".join([file, *filter(None, inside.split(".")), case.get("name", "")])
