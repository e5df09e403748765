"""A child process's line to the command that started it: says that it is ready or why not, and ends with that command.

The command's side is `children.py`. A process that somebody started by hand has no such line, and all of this is idle.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from taskmill.cli.errors import failure_of
from taskmill.cli.processes.exit import exit_now
from taskmill.engine.errors import TaskmillError

__all__ = ["Parent"]

_SECOND_ASKING = 0.5
_LONGEST_FAREWELL = 5.0


class Parent:
    """The command that started this process; `descriptor` is this end of a socket pair, None = nobody did."""

    def __init__(self, descriptor: int | None) -> None:
        self._line: socket.socket | None = None
        if descriptor is not None:
            # Programs that a tool starts must not inherit it: the command would wait for them.
            os.set_inheritable(descriptor, False)
            self._line = socket.socket(fileno=descriptor)
            threading.Thread(target=self._listen, args=(self._line,), name="taskmill-parent", daemon=True).start()

    @property
    def is_there(self) -> bool:
        """Whether a command started this process and wants to hear from it."""
        return self._line is not None

    def ready(self, facts: dict[str, Any]) -> None:
        """Say that this process does its work now."""
        self._say({"ready": facts})

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Hands errors of ours over instead of printing them, so that they are shown once.

        Raises:
            SystemExit: with the error's exit code, after it was handed over.
        """
        try:
            yield
        except TaskmillError as exc:
            if not self.is_there:
                raise
            failure = failure_of(exc)
            self._say({"failure": asdict(failure)})
            raise SystemExit(failure.code) from None

    def _say(self, what: dict[str, Any]) -> None:
        if self._line is not None:
            try:
                self._line.sendall(json.dumps(what).encode() + b"\n")
            except OSError:
                pass  # the command is gone; the listening thread sees that too

    def _listen(self, line: socket.socket) -> None:
        """Waits for the one order there is, to stay behind; the end of the line means that the command died."""
        try:
            order = line.makefile("rb").readline()
        except OSError:
            order = b""
        if order.endswith(b"\n"):
            # Nobody hears us from now on: errors belong in the log.
            self._line = None
            _write_to(json.loads(order)["log"])
        else:
            _end()


def _write_to(log: str) -> None:
    """From now on everything that this process prints goes to the end of a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _end() -> None:
    """End this process: asked once it finishes its work, asked twice it gives it back, and then it is over."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_SECOND_ASKING)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_LONGEST_FAREWELL)
    exit_now(1, flush=False)
