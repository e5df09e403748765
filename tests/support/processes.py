"""Processes of the tests: the `taskmill` command of this environment, which processes are there, and ending them."""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["descendants", "end", "kill", "lives", "processes_with", "taskmill"]


def taskmill() -> str:
    """The command of the environment that runs the tests."""
    return str(Path(sys.executable).with_name("taskmill"))


def lives(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """Children of a process, their children, and so on."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def processes_with(variable: str, value: str) -> dict[int, str]:
    """Command lines by process id, of all processes that were started with this variable."""
    wanted = f"{variable}={value}".encode()
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if line and wanted in (place / "environ").read_bytes().split(b"\0"):
                found[int(place.name)] = line
    return found


def kill(pids: Iterable[int]) -> None:
    """Kill processes, those that have ended in the meantime excepted."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def end(pid: int, number: int, *, within: float) -> None:
    """Signal a process and wait until it has ended, its connections with it: its command line is gone before that.

    Args:
        number: Of the signal.
        within: Seconds.

    Raises:
        AssertionError: It has not ended in that time.
    """
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, number)
        ended, _, _ = select.select([process], [], [], within)
        assert ended, f"process {pid} still runs {within:g} s after signal {number}"
    finally:
        os.close(process)
