"""Processes of the tests: the `taskmill` command of this environment, which processes are there, and ending them."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["descendants", "kill", "lives", "processes_with", "taskmill"]


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
