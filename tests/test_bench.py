"""That `bench/run` runs, reports in its shape and leaves nothing behind. Nothing here looks at anybody's speed."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import broken_promises
from bench.figures import Figure, Goal, Result
from bench.plot import as_svg

ROOT = Path(__file__).parents[1]
RUN = ROOT / "bench" / "run"
# The cheapest case, with every count and duration cut to a twentieth.
SMALLEST = ("--quick", "--only", "get", "--scale", "0.05")
PATIENCE = 55.0


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Where the run keeps its files. Not pytest's tmp_path: a socket's path has room for some 100 bytes."""
    directory = Path(tempfile.mkdtemp(prefix="bench-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def running(scratch: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """The bench as a process of its own; what it says goes to the file `said`."""
    with (scratch / "said").open("wb") as said:
        process = subprocess.Popen(
            [RUN, *words], env={**os.environ, "TMPDIR": str(scratch)}, stdout=said, stderr=said, start_new_session=True
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=10)


def bench(scratch: Path, *words: str) -> tuple[int, str]:
    """Exit status and output of a run."""
    with running(scratch, *words) as process:
        status = process.wait(timeout=PATIENCE)
    return status, (scratch / "said").read_text()


def test_a_small_run_writes_every_figure_and_what_it_was_measured_on(scratch: Path) -> None:
    """figures are measured side by side in one run, and mean nothing without the machine."""
    status, said = bench(scratch, *SMALLEST, "--json", str(scratch / "out.json"))
    assert status == 0, said
    report: dict[str, Any] = json.loads((scratch / "out.json").read_text())

    assert {"machine", "plan", "contenders", "figures"} == report.keys()
    assert report["plan"] == {"rounds": 1, "seconds": 1.0, "scale": 0.05}
    machine = report["machine"]
    assert os.cpu_count() == machine["cores"]
    assert all(machine[fact] for fact in ("date", "processor", "system", "python", "redis", "versions"))

    assert [figure["figure"] for figure in report["figures"]] == ["get_rate", "get_commands"]
    measured = {"windlass", "fastmcp"} if machine["peers"] else {"windlass"}
    for figure in report["figures"]:
        assert measured == figure["rounds"].keys() == figure["medians"].keys()
        assert all(len(rounds) == 1 and rounds[0] > 0 for rounds in figure["rounds"].values())
        assert figure["title"] in said
        assert (figure["ratio"] is not None) == bool(machine["peers"])
    rate = report["figures"][0]
    assert rate["met"] is (rate["medians"]["windlass"] >= rate["goal"] if machine["peers"] else None)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for left processes in /proc")
def test_a_run_that_is_told_to_stop_leaves_no_process(scratch: Path) -> None:
    """Whoever stops a run has their machine back at once."""
    with running(scratch, *SMALLEST, "--scale", "20") as process:
        deadline = time.monotonic() + PATIENCE
        while not any("bench/programs" in line for line in processes_of(scratch)):  # the set-up before is plain bash
            assert process.poll() is None, (scratch / "said").read_text()
            assert time.monotonic() < deadline, (scratch / "said").read_text()
            time.sleep(0.05)
        process.terminate()
        assert process.wait(timeout=10) == 128 + signal.SIGTERM
    assert processes_of(scratch) == []
    assert [path.name for path in scratch.iterdir()] == ["said"]


def processes_of(scratch: Path) -> list[str]:
    """Command lines of the processes whose environment names the directory."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and str(scratch).encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


def test_the_page_takes_only_whole_tables(scratch: Path) -> None:
    """A table of one case would replace the figures of all the others in docs/performance.md."""
    status, said = bench(scratch, "--only", "get", "--markdown")
    assert (status, "leave out --only" in said) == (2, True)


def result(ours: float, *, promised: bool) -> Result:
    figure = Figure("k", "tasks & more", "tasks/s", True, ("saq",), Goal("≥ 1x saq", lambda _: 10.0), promised=promised)
    return Result(figure, {"windlass": [ours], "saq": [10.0]}, 10.0)


def test_a_run_fails_where_a_promised_goal_is_missed_and_only_there() -> None:
    results = [result(9, promised=True), result(9, promised=False), result(10, promised=True)]
    assert broken_promises(results) == ["tasks & more"]


def test_a_plot_has_a_bar_for_each_who_was_measured_in_proportion_and_the_goal() -> None:
    drawn = ET.fromstring(as_svg(result(5, promised=False), {"windlass": "Windlass", "saq": "saq"}))
    widths = [float(bar.get("width", "")) for bar in drawn.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths[0] == 2 * widths[1] > 0
    texts = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["tasks & more (tasks/s)", "saq", "10", "Windlass", "5", "≥ 1x saq"]


def test_followers_share_one_subscription_and_miss_nothing(scratch: Path) -> None:
    """The short form of a thousand open event streams; only what does not depend on the machine's speed is held."""
    status, said = bench(
        scratch, "--quick", "--only", "followers", "--scale", "0.05", "--json", str(scratch / "out.json")
    )
    assert status == 0, said
    report = json.loads((scratch / "out.json").read_text())

    figures = {figure["figure"]: figure["medians"]["windlass"] for figure in report["figures"]}
    assert (figures["followers_count"], figures["followers_subscriptions"], figures["followers_missed"]) == (20, 1, 0)
    assert 0 < figures["followers_p50"] <= figures["followers_p99"]
    assert figures["followers_rate"] > 10
