"""The server of a call: one that runs already, or a local stack that is started for the call and stopped after it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from taskmill.cli.logs import LogForm, LogLevel
from taskmill.cli.processes.prepared import PreparedProcess
from taskmill.cli.processes.supervisor import KeptRedis, ProcessPlan, Supervisor
from taskmill.cli.processes.worker_log import worker_log_in
from taskmill.cli.source import source_of_stack
from taskmill.workers.settings import WorkerSettings

__all__ = ["LocalStack", "local_stack"]

_IDLE_EXIT = 30
"""Seconds without a task after which a detached worker ends."""
_EXPLAIN_WAIT_AFTER = 2.0


@dataclass
class LocalStack:
    """Where the server is, and what to do with its workers at the end."""

    url: str
    supervisor: Supervisor | None = field(default=None, repr=False)
    """None: the server was not started by this call."""
    release_tasks: bool = True
    """Whether workers release their tasks at once at the end; False if the call has its result."""
    is_detached: bool = False
    """Whether the workers outlive the call."""

    async def detach(self, home: Path) -> None:
        """Let the workers outlive the call; they write to a log in the data directory."""
        if self.supervisor is not None:
            await self.supervisor.detach_workers(worker_log_in(home))
            self.is_detached = True


@asynccontextmanager
async def local_stack(
    file: str,
    settings: WorkerSettings,
    redis_url: str | None,
    on_line: Callable[[str], None],
    *,
    level: LogLevel | None = None,
    form: LogForm = LogForm.AUTO,
    prepared: Sequence[PreparedProcess] = (),
) -> AsyncIterator[LocalStack]:
    """A server on a free port and a worker, stopped at the end of the block. `on_line` gets each line that they print.

    `prepared`: processes that become the server and the worker.

    Raises:
        CommandFailed: one of them could not start.
        NoRedisServer, SettingsError, OperatorError: the embedded Redis cannot start.
    """
    async with KeptRedis() as redis, _line_pipe(on_line) as output:
        redis_flags = () if redis_url is None else ("--redis-url", redis_url)
        plan = ProcessPlan(
            file,
            server=("--host", "127.0.0.1"),
            worker=("--idle-exit", str(_IDLE_EXIT)),
            both=(*redis_flags, "--source", source_of_stack(file), *_log_flags(level, form)),
            port=0,
            grace=settings.grace,
            output=output,
        )
        supervisor = Supervisor(plan, redis, prepared)
        facts = await supervisor.start()
        stack = LocalStack(facts["url"], supervisor)
        try:
            yield stack
        finally:
            if not stack.is_detached:
                await _stop(supervisor, stack, on_line)


def _log_flags(level: LogLevel | None, form: LogForm) -> tuple[str, ...]:
    """How the children log: they write to a pipe, and this process to what may be a terminal."""
    shown = (LogForm.TEXT if sys.stderr.isatty() else LogForm.JSON) if form is LogForm.AUTO else form
    ours, authors = level or LogLevel.WARNING, level or LogLevel.INFO
    return ("--log-level", ours.value, "--authors-log-level", authors.value, "--log-form", shown.value)


async def _stop(supervisor: Supervisor, stack: LocalStack, on_line: Callable[[str], None]) -> None:
    stopping = asyncio.create_task(supervisor.stop(release_tasks=stack.release_tasks))
    _, pending = await asyncio.wait([stopping], timeout=_EXPLAIN_WAIT_AFTER)
    if pending and await supervisor.active_tasks():
        on_line("taskmill: The worker finishes another task first. Press Ctrl-C to return that task to the queue.")
    await stopping


@asynccontextmanager
async def _line_pipe(on_line: Callable[[str], None]) -> AsyncIterator[int]:
    """The writing end of a pipe; `on_line` gets each line that is written there."""
    reading, writing = os.pipe()
    loop = asyncio.get_running_loop()
    stream = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb", buffering=0)
    )

    async def forward_lines() -> None:
        while line := await stream.readline():
            on_line(line.decode(errors="replace").rstrip("\n"))

    forwarding = asyncio.create_task(forward_lines())
    try:
        yield writing
    finally:
        os.close(writing)
        # Forward the children's last lines; a detached worker, or a program of a tool, may keep the pipe open.
        await asyncio.wait([forwarding], timeout=0.5)
        forwarding.cancel()
        transport.close()
