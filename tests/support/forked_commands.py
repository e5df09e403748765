"""Commands of `taskmill` as processes that are forked from one that has imported them, for tests of what they do.

A command that is executed spends a second or two of a core on its imports. What depends on the start of a process is
tested with one that is executed: `may_fork` says which.
"""

import atexit
import contextlib
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from tests.support.waiting import WAIT_SECONDS, eventually

__all__ = ["ForkedCommand", "may_fork", "run_forked"]

_EXECUTED = ("--version", "stdio")
"""Words of commands that are always executed: `stdio` answers before it has imported all, and one as good as empty."""
_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "FORCE_COLOR", "NO_COLOR", "PY_COLORS", "TERMINAL_WIDTH", "TZ")
"""Beginnings of the variables that count when Python starts, or when a library is imported."""
_ROOM = 32 * 1024
"""Bytes for a forked command's words, and for its variables."""


def may_fork(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether this is a command of `taskmill` that does the same when it is forked."""
    program, *words = command
    given = {name: value for name, value in environment.items() if name.startswith(_AT_START)}
    ours = {name: value for name, value in os.environ.items() if name.startswith(_AT_START)}
    is_ours = Path(program).name == "taskmill" and bool(words) and words[0] not in _EXECUTED
    return sys.platform == "linux" and is_ours and given == ours


class ForkedCommand:
    """A command that runs, with what the tests use of `subprocess.Popen`. Standard input is empty."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, *, errors: int, session: bool = True
    ) -> None:
        """`errors`: the descriptor for its standard error. `session`: whether it gets a session of its own."""
        self._command = list(command)
        self.returncode: int | None = None
        out, into = os.pipe()
        self.stdout = os.fdopen(out, encoding="utf-8")
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(_forking_process())
        request = {"words": command[1:], "environment": dict(environment), "folder": str(folder), "session": session}
        socket.send_fds(self._connection, [json.dumps(request).encode() + b"\n"], [into, errors])
        os.close(into)
        self._replies = self._connection.makefile("r")
        self.pid = int(self._replies.readline())

    def poll(self) -> int | None:
        """The exit code, None = it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the exit code, negative = the signal that ended it.

        Raises:
            subprocess.TimeoutExpired: it has not ended in `timeout` seconds.
        """
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self._command, timeout or 0)
            self.returncode = int(self._replies.readline())
            self._replies.close()
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def run_forked(
    command: Sequence[str], environment: Mapping[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end; standard input is empty.

    Raises:
        subprocess.TimeoutExpired: it did not end in time, and was killed.
    """
    errors, into = os.pipe()
    process = ForkedCommand(command, environment, folder, errors=into, session=False)
    os.close(into)
    try:
        output, error_text = _read_to_end((process.stdout.fileno(), errors))
        code = process.wait(WAIT_SECONDS)
    except (TimeoutError, subprocess.TimeoutExpired):
        process.kill()
        process.wait()
        raise subprocess.TimeoutExpired(list(command), WAIT_SECONDS) from None
    finally:
        process.stdout.close()
        os.close(errors)
    return subprocess.CompletedProcess(list(command), code, output, error_text)


def _read_to_end(pipes: tuple[int, int]) -> list[str]:
    """What comes through the pipes, as text, when both are closed."""
    read = dict.fromkeys(pipes, b"")
    deadline = time.monotonic() + WAIT_SECONDS
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            if (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError
            for key, _ in selector.select(left):
                data = os.read(key.fd, 65536)
                read[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
    return [read[pipe].decode().replace("\r\n", "\n") for pipe in pipes]


@lru_cache
def _forking_process() -> str:
    """Start it, once for this process, with which it ends; the address of its socket."""
    place = tempfile.TemporaryDirectory(prefix="taskmill-")
    atexit.register(place.cleanup)
    address = os.path.join(place.name, "forks")
    program = Path(__file__).with_name("forking_process.py")
    words = [sys.executable, str(program), address, str(Path(sys.executable).with_name("taskmill")), "-" * _ROOM]
    ours = {name: value for name, value in os.environ.items() if not name.startswith("TASKMILL_")}
    process = subprocess.Popen(words, env=ours | {"TEST_ROOM": "-" * _ROOM}, stdin=subprocess.PIPE)
    assert process.stdin is not None
    atexit.register(process.wait)
    atexit.register(process.stdin.close)
    eventually(lambda: process.poll() is not None or os.path.exists(address))
    assert process.returncode is None, "the process that forks commands has ended"
    return address
