"""A child process's socket to the command that started it: reports that it is ready, or why not, and ends with it.

The command's side is `child.py`. A process that a person started has no such socket, and nothing here does anything.
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
from taskmill.cli.processes.secret_words import forget_secrets
from taskmill.engine.errors import TaskmillError

__all__ = ["Parent"]

_SECOND_SIGNAL_AFTER = 0.5
_EXIT_AFTER = 5.0


class Parent:
    """The command that started this process; `descriptor` is this end of a socket pair, None = no command did."""

    def __init__(self, descriptor: int | None) -> None:
        self._socket: socket.socket | None = None
        forget_secrets()
        if descriptor is not None:
            # Programs that a tool starts must not inherit it: the command would wait for their end.
            os.set_inheritable(descriptor, False)
            self._socket = socket.socket(fileno=descriptor)
            threading.Thread(target=self._read_order, args=(self._socket,), name="taskmill-parent", daemon=True).start()

    @property
    def is_connected(self) -> bool:
        """Whether a command started this process and still reads its reports."""
        return self._socket is not None

    def report_ready(self, facts: dict[str, Any]) -> None:
        """Report that this process is ready."""
        self._send({"ready": facts})

    def report_loaded(self) -> None:
        """Report that this server is loaded and will serve when the port is free."""
        self._send({"loaded": True})

    def report_draining(self, active: int) -> None:
        """Report that this worker is stopping, and how many tasks it still runs."""
        self._send({"draining": active})

    @contextmanager
    def reporting_errors(self) -> Iterator[None]:
        """Send errors of this package to the command instead of printing them, so that they are shown once.

        Raises:
            SystemExit: with the error's exit code, after it was sent.
        """
        try:
            yield
        except TaskmillError as exc:
            if not self.is_connected:
                raise
            failure = failure_of(exc)
            self._send({"failure": asdict(failure)})
            raise SystemExit(failure.code) from None

    def _send(self, message: dict[str, Any]) -> None:
        if self._socket is not None:
            try:
                self._socket.sendall(json.dumps(message).encode() + b"\n")
            except OSError:
                pass  # the command is gone; the reading thread sees that too

    def _read_order(self, socket_: socket.socket) -> None:
        """Wait for the only order, to outlive the command. End of file means that the command died."""
        try:
            order = socket_.makefile("rb").readline()
        except OSError:
            order = b""
        if order.endswith(b"\n"):
            # The command no longer reads: errors go to the log from now on.
            self._socket = None
            _redirect_output(json.loads(order)["log"])
        else:
            _stop_process()


def _redirect_output(log: str) -> None:
    """Append everything that this process prints from now on to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _stop_process() -> None:
    """End this process: one SIGTERM makes it finish its tasks, the second release them; then it exits at once."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_SECOND_SIGNAL_AFTER)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_EXIT_AFTER)
    # No flush: the main thread may hang in a print, since the command no longer reads.
    exit_now(1, flush=False)
