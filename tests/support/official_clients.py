"""The official clients, each in a process of its own, as their users run them; pinned by `scripts/clients`."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Json", "Official", "Program", "needed"]

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]
_LINE_SECONDS = 100 if os.environ.get("TASKMILL_TEST_LONG") else 30
"""Seconds to wait for a client's next line; the long forms of some tests have calls that are silent for a minute."""
CLIENTS = ROOT / "tests" / "clients"
"""Where the programs are that drive them."""


class Program:
    """A client that runs; what it prints, as it comes."""

    def __init__(
        self, command: list[str], environment: Mapping[str, str] | None = None, line_seconds: float = _LINE_SECONDS
    ) -> None:
        """`environment`: None = that of the tests. `line_seconds`: how long a line may take."""
        self.seen: list[Json] = []
        self._line_seconds = line_seconds
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._errors: list[str] = []
        self._threads = [threading.Thread(target=self._read), threading.Thread(target=self._read_errors)]
        for thread in self._threads:
            thread.start()

    def next(self) -> Json | None:
        """The next thing it saw; None at its end."""
        try:
            line = self._lines.get(timeout=self._line_seconds)
        except queue.Empty:
            raise AssertionError(
                f"nothing for {self._line_seconds:g} s after {self.seen[-3:]}\n{self.errors}"
            ) from None
        if line is None:
            return None
        self.seen.append(json.loads(line))
        return self.seen[-1]

    def until(self, enough: Callable[[Json], object]) -> Json:
        """Read up to the first thing that is enough."""
        while (saw := self.next()) is not None:
            if enough(saw):
                return saw
        raise AssertionError(f"it ended before that, with {self.process.wait()}: {self.seen[-3:]}\n{self.errors}")

    def catch_up(self) -> list[Json]:
        """All that it saw up to now."""
        while not self._lines.empty() and self.next() is not None:
            pass
        return self.seen

    def finish(self) -> list[Json]:
        """Read to the end; all that it saw. It must have ended well."""
        while self.next() is not None:
            pass
        assert self.process.wait() == 0, f"it ended with {self.process.returncode}: {self.seen[-3:]}\n{self.errors}"
        return self.seen

    @property
    def errors(self) -> str:
        """What it wrote to standard error so far."""
        return "".join(self._errors)

    def close(self) -> None:
        """End it, if it still runs."""
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            self._errors.extend(lines)


@dataclass(frozen=True)
class Official:
    """The interpreters that `scripts/clients` installed; None where one cannot be had."""

    node: str | None
    mcp1: str | None
    peers: str | None

    @classmethod
    def installed(cls) -> "Official":
        """Install what is missing."""
        done = subprocess.run([ROOT / "scripts" / "clients"], stdout=subprocess.PIPE, text=True, check=False)
        assert done.returncode in (0, 77), f"scripts/clients ended with {done.returncode}; its message stands above"
        return cls(**json.loads(done.stdout))

    def python1(self, *words: str) -> contextlib.AbstractContextManager[Program]:
        """The Python SDK 1.x: `URL ACTION TOOL [ARGUMENTS]`."""
        return _running(needed(self.mcp1, "the Python SDK 1.x"), "python1_client.py", words)

    def python2(self, *words: str) -> contextlib.AbstractContextManager[Program]:
        """The Python SDK 2.x: `URL ERA TOOL [ARGUMENTS]`."""
        return _running(sys.executable, "python2_client.py", words)

    def typescript(self, *words: str) -> contextlib.AbstractContextManager[Program]:
        """The TypeScript SDK 1.x: `URL ACTION TOOL [ARGUMENTS]`."""
        return _running(needed(self.node, "the TypeScript SDK"), "typescript_client.mjs", words)

    def model(self, *words: str) -> contextlib.AbstractContextManager[Program]:
        """A host without tasks or progress on the TypeScript SDK 1.x, and its model: `URL TOOL ARGUMENTS LIMIT`."""
        return _running(needed(self.node, "the TypeScript SDK"), "model_client.mjs", words)

    def model_over_pipes(
        self, command: list[str], environment: Mapping[str, str], tool: str, arguments: Json, limit: float
    ) -> contextlib.AbstractContextManager[Program]:
        """The same host with a server that it starts; it gives a call up after `limit` seconds."""
        node = needed(self.node, "the TypeScript SDK")
        words = [json.dumps(command), tool, json.dumps(arguments), str(int(limit * 1000))]
        return _ended(Program([node, str(CLIENTS / "model_client.mjs"), *words], environment, limit + 40))

    def ext_tasks(self, *words: str) -> contextlib.AbstractContextManager[Program]:
        """`ext-tasks` on the TypeScript SDK 2.x: `URL ERA ACTION TOOL [ARGUMENTS]`."""
        return _running(needed(self.node, "the TypeScript SDK"), "ext_tasks_client.mjs", words)


def needed(interpreter: str | None, name: str) -> str:
    """The interpreter. Where it cannot be had the test is skipped, and in CI it fails."""
    if interpreter is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} must run in CI, and could not be installed: run scripts/clients")
        pytest.skip(f"{name.upper()} DID NOT RUN: scripts/clients could not install it")
    return interpreter


def _running(interpreter: str, name: str, words: tuple[str, ...]) -> contextlib.AbstractContextManager[Program]:
    return _ended(Program([interpreter, str(CLIENTS / name), *words]))


@contextlib.contextmanager
def _ended(program: Program) -> Iterator[Program]:
    try:
        yield program
    finally:
        program.close()
