"""What tools, clients and the driver say, in files outside Redis: one JSON list a line, one write a line."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["STEPS", "Journal", "lines_of"]

STEPS = ("pack", "sail", "land")
"""The durable steps of the tool `travel`, in order."""


class Journal:
    """One writer's file. A line is there when `note` returns, whatever happens to the process then."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, what: str, *facts: Any) -> None:
        """Write one line: what, monotonic seconds (one clock for every process of a machine), facts."""
        os.write(self._file, json.dumps([what, time.monotonic(), *facts]).encode() + b"\n")


def lines_of(folder: Path, kind: str) -> Iterator[list[Any]]:
    """The lines of every file whose name begins with `kind`, each file in order."""
    for path in sorted(folder.glob(f"{kind}*")):
        yield from map(json.loads, path.read_text().splitlines())
