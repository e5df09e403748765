"""The process of isolated tools: loads the worker's server once, and runs one attempt at a time until the line ends.

Started by a worker (`workers/isolation/process.py`), never by hand. Arguments and results go nowhere but over the line.
"""

import asyncio
import ctypes
import os
import resource
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from taskmill.cli.errors import failure_of
from taskmill.cli.isolated.remote_context import RemoteJournal, RemoteOutput, WorkerChannel
from taskmill.cli.loading import load_server
from taskmill.cli.logs import FORM, LEVEL, LogForm, LogLevel, configure
from taskmill.cli.processes.exit import exit_now
from taskmill.engine.context import TaskContext
from taskmill.engine.errors import TaskmillError
from taskmill.engine.outcome import Outcome, outcome_to_json
from taskmill.engine.ports import Toolbox
from taskmill.engine.threads import running_in_threads
from taskmill.workers.isolation.messages import Message, encoded, exception_to_json, messages_from

__all__ = ["main"]

_END_WITH_PARENT = 1
"""PR_SET_PDEATHSIG."""
_FAREWELL = 2.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Serve the worker at the other end of the line."""
    target, descriptor = sys.argv[1:]
    _end_with_parent()
    os.dup2(2, 1)  # what a tool prints must not look like anything else
    configure(LogLevel(os.environ.get(LEVEL, "info")), LogForm(os.environ.get(FORM, "auto")))
    os.set_inheritable(int(descriptor), False)
    line = socket.socket(fileno=int(descriptor))
    try:
        server = load_server(target)
    except TaskmillError as exc:
        line.sendall(encoded({"failure": failure_of(exc).message}))
        sys.exit(1)
    asyncio.run(_serve(server, line))


async def _serve(server: Any, socket_: socket.socket) -> None:
    async with server.toolbox() as toolbox:
        desk = _RemoteHandlers(toolbox, WorkerChannel(socket_), asyncio.get_running_loop())
        threading.Thread(target=desk.read, args=(socket_,), name="taskmill.line", daemon=True).start()
        desk.line.say({"ready": True})
        await desk.closed.wait()


class _RemoteHandlers:
    """Takes orders from the line."""

    def __init__(self, toolbox: Toolbox, line: WorkerChannel, loop: asyncio.AbstractEventLoop) -> None:
        self.line = line
        self.closed = asyncio.Event()
        self._toolbox = toolbox
        self._loop = loop
        self._context: TaskContext | None = None

    def read(self, line: socket.socket) -> None:
        """In a thread of its own: a tool may block the loop, and must not outlive the worker all the same."""
        for message in messages_from(line):
            self._loop.call_soon_threadsafe(self._take, message)
        if self._context is not None:
            os.killpg(0, signal.SIGKILL)
        self._loop.call_soon_threadsafe(self.closed.set)
        threading.Event().wait(_FAREWELL)
        exit_now(flush=False)

    def _take(self, message: Message) -> None:
        if "run" in message:
            self.line.tool = asyncio.create_task(self._run(message["run"]))
        elif "cancel" in message:
            if self._context is not None:
                self._context.cancel()
            if self.line.tool is not None:
                self.line.tool.cancel()
        else:
            self.line.hear(message)

    async def _run(self, order: Message) -> None:
        structlog.contextvars.bind_contextvars(task_id=order["task_id"])
        context = self._context = TaskContext(
            task_id=order["task_id"],
            attempt=order["attempt"],
            fence=order["fence"],
            principal=order["principal"],
            report=self.line.progress,
            ask=self._ask,
            output=None if order["inline_limit"] is None else RemoteOutput(self.line, order["inline_limit"]),
            journal=RemoteJournal(self.line, order["state"]),
        )
        unlimited = _limit_memory(order["memory_limit"])
        try:
            outcome: Outcome = await self._toolbox.run(order["tool"], order["payload"], context)
            end: Message = {"outcome": outcome_to_json(outcome)}
        except BaseException as exc:  # whatever a tool raises is an outcome, and the worker judges it
            end = {"crash": exception_to_json(exc)}
        finally:
            context.end()
            resource.setrlimit(resource.RLIMIT_AS, unlimited)
        end["stuck"] = running_in_threads() > 0  # a thread was left behind: nobody can use this process again
        self._context = None
        structlog.contextvars.clear_contextvars()
        self.line.say(end)

    async def _ask(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        assert self._context is not None
        answers: list[dict[str, Any]] = await self.line.call("ask", requests, state=self._context.journal.state)
        return answers


def _limit_memory(limit: int | None) -> tuple[int, int]:
    """Refuse this process more memory than `limit` beside what is mapped and not used; the limits there were."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(OSError, ValueError):
        if limit is not None:
            mapped, resident = (int(word) * _PAGE for word in Path("/proc/self/statm").read_text().split()[:2])
            resource.setrlimit(resource.RLIMIT_AS, (mapped - resident + limit, before[1]))
    return before


def _end_with_parent() -> None:
    """Have the system kill this process when its worker dies, however that happens (Linux)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGKILL)


if __name__ == "__main__":
    main()
