"""Processes of the tests: the `taskmill` command of this environment, and whether a process is still there."""

import sys
from pathlib import Path

__all__ = ["lives", "taskmill"]


def taskmill() -> str:
    """The command of the environment that runs the tests."""
    return str(Path(sys.executable).with_name("taskmill"))


def lives(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
