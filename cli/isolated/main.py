"""A tool process: loads the worker's server once, and runs one attempt at a time until the worker closes the channel.

A worker starts it (`workers/isolation/process.py`), never a person. Arguments and results go over the channel only.
"""

import asyncio
import ctypes
import errno
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import Any

import structlog

from taskmill.cli.errors import failure_of
from taskmill.cli.isolated.confinement import LIMIT_OF_ERRNO, confine, limit_cpu, limit_for_life, limit_memory
from taskmill.cli.isolated.remote_context import RemoteCallerState, RemoteJournal, RemoteOutput, WorkerChannel
from taskmill.cli.loading import load_server
from taskmill.cli.logs import configure_as_parent
from taskmill.cli.processes.exit import exit_now
from taskmill.engine.context import TaskContext
from taskmill.engine.errors import TaskmillError
from taskmill.engine.outcome import Outcome, outcome_to_json
from taskmill.engine.ports import Toolbox
from taskmill.engine.threads import running_in_threads
from taskmill.workers.child_processes import child_processes
from taskmill.workers.isolation.messages import Message, encoded, exception_to_json, messages_from
from taskmill.workers.process_signals import keep_signals_from_children

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
"""PR_SET_PDEATHSIG."""
_EXIT_AFTER = 2.0


def main() -> None:
    """Run attempts for the worker at the other end of the channel."""
    target, descriptor = sys.argv[1:]
    _die_with_parent()
    os.dup2(2, 1)  # a tool's prints go to standard error, as logs do
    configure_as_parent()
    os.set_inheritable(int(descriptor), False)
    socket_ = socket.socket(fileno=int(descriptor))
    confine()
    try:
        server = load_server(target)
    except TaskmillError as exc:
        socket_.sendall(encoded({"failure": failure_of(exc).message}))
        sys.exit(1)
    asyncio.run(_serve(server, socket_))


async def _serve(server: Any, socket_: socket.socket) -> None:
    keep_signals_from_children()
    async with server.toolbox() as toolbox:
        runner = _AttemptRunner(toolbox, WorkerChannel(socket_), asyncio.get_running_loop())
        threading.Thread(target=runner.read, args=(socket_,), name="taskmill.line", daemon=True).start()
        runner.channel.send({"ready": True})
        await runner.closed.wait()


class _AttemptRunner:
    """Runs the attempts that the worker sends, one at a time."""

    def __init__(self, toolbox: Toolbox, channel: WorkerChannel, loop: asyncio.AbstractEventLoop) -> None:
        self.channel = channel
        self.closed = asyncio.Event()
        self._toolbox = toolbox
        self._loop = loop
        self._context: TaskContext | None = None
        self._is_limited = False

    def read(self, socket_: socket.socket) -> None:
        """Read messages in a thread: a tool may block the loop, and must not outlive the worker even then."""
        for message in messages_from(socket_):
            self._loop.call_soon_threadsafe(self._handle, message)
        if self._context is not None:
            os.killpg(0, signal.SIGKILL)
        self._loop.call_soon_threadsafe(self.closed.set)
        threading.Event().wait(_EXIT_AFTER)
        # No flush: the loop may hang in a print of the tool.
        exit_now(flush=False)

    def _handle(self, message: Message) -> None:
        if "run" in message:
            self.channel.tool = asyncio.create_task(self._run(message["run"]))
        elif "cancel" in message:
            if self._context is not None:
                self._context.cancel()
            if self.channel.tool is not None:
                self.channel.tool.cancel()
        else:
            self.channel.receive(message)

    async def _run(self, run: Message) -> None:
        structlog.contextvars.bind_contextvars(task_id=run["task_id"])
        context = self._context = TaskContext(
            task_id=run["task_id"],
            attempt=run["attempt"],
            fence=run["fence"],
            principal=run["principal"],
            report=self.channel.progress,
            log=self.channel.log,
            ask=self._ask,
            output=None if run["inline_limit"] is None else RemoteOutput(self.channel, run["inline_limit"]),
            journal=RemoteJournal(self.channel, run["state"]),
            caller_state=RemoteCallerState(self.channel),
        )
        children_before = child_processes()
        self._limit(run["limits"])
        try:
            outcome: Outcome = await self._toolbox.run(run["tool"], run["payload"], context)
            reply: Message = {"outcome": outcome_to_json(outcome)}
        except BaseException as exc:  # whatever a tool raises is an outcome, and the worker decides about it
            reply = {"crash": exception_to_json(exc), "exceeded": _exceeded_limit(exc)}
        finally:
            context.end()
        # Something of the tool still runs: this process must not be used again, and ends with all its children.
        reply["stuck"] = running_in_threads() > 0 or not child_processes() <= children_before
        self._context = None
        structlog.contextvars.clear_contextvars()
        self.channel.send(reply)

    def _limit(self, limits: dict[str, Any]) -> None:
        if not self._is_limited:
            limit_for_life(limits)
            self._is_limited = True
        limit_memory(limits["memory"])
        limit_cpu(limits["cpu"])

    async def _ask(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        assert self._context is not None
        answers: list[dict[str, Any]] = await self.channel.call("ask", requests, state=self._context.journal.state)
        return answers


def _exceeded_limit(exc: BaseException) -> str | None:
    """The limit that this error comes of, if the tool has that limit."""
    if isinstance(exc, MemoryError):
        return "memory"
    number = exc.errno if isinstance(exc, OSError) else None
    return LIMIT_OF_ERRNO.get(errno.errorcode.get(number or 0, ""))


def _die_with_parent() -> None:
    """Make the system kill this process when its worker dies, however it dies (Linux)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
