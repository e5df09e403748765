"""Where a call goes: a server that is there already, or a stack of the call's own, made for it and ended after it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from taskmill.cli.logs import LogForm, LogLevel
from taskmill.cli.processes.supervisor import ProcessPlan, Supervisor, kept_redis
from taskmill.cli.processes.worker_log import worker_log_in
from taskmill.workers.settings import WorkerSettings

__all__ = ["LocalStack", "local_stack"]

_IDLE_EXIT = 30
"""Seconds without a task after which a worker that was left behind ends."""
_EXPLAIN_AFTER = 2.0


@dataclass
class LocalStack:
    """Where the server is, and what to do with its workers in the end."""

    url: str
    crew: Supervisor | None = field(default=None, repr=False)
    """None: somebody else's."""
    hurry: bool = True
    """Whether workers give tasks back at once; set to False when the call came to its end."""
    is_left: bool = False
    """Whether the workers stay."""

    async def leave(self, home: Path) -> None:
        """Leave the workers to themselves; they write to a log in the data directory."""
        if self.crew is not None:
            await self.crew.leave_workers(worker_log_in(home))
            self.is_left = True


@asynccontextmanager
async def local_stack(
    file: str, settings: WorkerSettings, redis_url: str | None, level: LogLevel, say: Callable[[str], None]
) -> AsyncIterator[LocalStack]:
    """A server on any free port and a worker, ended with the block. `say` gets each line they print.

    Raises:
        Reported: one of them could not start.
        NoRedisServer, SettingsError, OperatorError: there is no embedded Redis to be had.
    """
    async with kept_redis(settings), _lines(say) as output:
        form = LogForm.TEXT if sys.stderr.isatty() else LogForm.JSON
        address = () if redis_url is None else ("--redis-url", redis_url)
        orders = ProcessPlan(
            file,
            server=("--host", "127.0.0.1"),
            worker=("--idle-exit", str(_IDLE_EXIT)),
            both=(*address, "--log-level", level.value, "--log-form", form.value),
            port=0,
            grace=settings.grace,
            output=output,
        )
        crew = Supervisor(orders)
        facts = await crew.start()
        place = LocalStack(facts["url"], crew)
        try:
            yield place
        finally:
            if not place.is_left:
                await _end(crew, place, say)


async def _end(crew: Supervisor, place: LocalStack, say: Callable[[str], None]) -> None:
    stopping = asyncio.create_task(crew.stop(hurry=place.hurry))
    _, late = await asyncio.wait([stopping], timeout=_EXPLAIN_AFTER)
    if late:
        say("taskmill: The worker first ends another task it has taken on. Ctrl-C gives that task back.")
    await stopping


@asynccontextmanager
async def _lines(say: Callable[[str], None]) -> AsyncIterator[int]:
    """The end of a pipe; `say` gets each line that is written there."""
    reading, writing = os.pipe()
    loop = asyncio.get_running_loop()
    stream = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb", buffering=0)
    )

    async def pass_on() -> None:
        while line := await stream.readline():
            say(line.decode(errors="replace").rstrip("\n"))

    passing = asyncio.create_task(pass_on())
    try:
        yield writing
    finally:
        os.close(writing)
        # What the children said last; a worker that was left, or a program of a tool, may keep the pipe open.
        await asyncio.wait([passing], timeout=0.5)
        passing.cancel()
        transport.close()
