"""One process for isolated tools, from the worker's side: it runs one attempt at a time, and can be killed.

The other side is `cli/isolated/main.py`. What the tool reports of progress, questions, steps and files is done here, as
if it ran in the worker.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from taskmill.engine.context import TaskContext
from taskmill.engine.errors import MemoryExceeded, ProcessDied, ServerLoadError
from taskmill.engine.outcome import Outcome, outcome_from_json
from taskmill.workers.isolation.attempt import IsolatedAttempt
from taskmill.workers.isolation.messages import Message, exception_of, frame, read_frame

__all__ = ["ToolProcess"]

log = structlog.get_logger()
_PATIENCE = 0.3
"""Seconds a cancelled tool gets to unwind, and then its process to end on SIGTERM."""
_OPENING = 60.0
_FAREWELL = 3.0
_LOOK_EVERY = 0.05
"""Seconds between looks at the memory of a process that has a limit."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ToolProcess:
    """A child process, from `open` to `kill`."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._over_limit = False
        self._stopped = False

    @classmethod
    async def open(cls, command: Sequence[str]) -> "ToolProcess":
        """Start the process; returns when it has loaded the server.

        Raises:
            ServerLoadError: it could not.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *command,
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # a group of its own, so that what the tool starts is killed with it
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        cell = cls(process, reader, writer)
        try:
            async with asyncio.timeout(_OPENING):
                first = await read_frame(reader)
        except BaseException:
            await cell.kill()
            raise
        if first is None or "ready" not in first:
            await cell.kill()
            why = first["failure"] if first else f"it {cell._ending()}"
            raise ServerLoadError(f"The process for isolated tools could not start: {why}")
        return cell

    @property
    def is_healthy(self) -> bool:
        """Whether it can run another attempt."""
        return self._process.returncode is None and not self._stopped

    async def run(self, order: Message, context: TaskContext, *, memory_limit: int | None) -> Outcome:
        """Run one attempt there. Cancelled, the tool is, and its process is killed if it does not unwind at once.

        Raises:
            ProcessDied, MemoryExceeded: the process is gone.
            BaseException: whatever the tool raised.
        """
        visit = IsolatedAttempt(self._writer, context)
        reading = asyncio.create_task(visit.read_all(self._reader))
        watching = asyncio.create_task(self._watch(memory_limit)) if memory_limit else None
        try:
            self._say({"run": {**order, "memory_limit": memory_limit}})
            return await self._end_of(order["tool"], await visit.serve(), memory_limit)
        except asyncio.CancelledError:
            await self._calm(visit)
            raise
        finally:
            visit.close()
            for task in (reading, watching):
                if task is not None:
                    task.cancel()
            if visit.stuck and not self._stopped:
                log.info("tool.killed", pid=self._process.pid)
                await self.kill()

    async def close(self) -> None:
        """Let an idle process leave the server's lifespan and end; one that does not is killed."""
        self._writer.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await self._process.wait()
        await self.kill()

    async def kill(self) -> None:
        """End the process and all it has started: SIGTERM, and SIGKILL soon after. Returns when it is gone."""
        self._stopped = True
        self._writer.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await self._process.wait()
        await self._process.wait()

    async def _end_of(self, tool: str, end: Message | None, memory_limit: int | None) -> Outcome:
        if end is None:
            await self.kill()
            if self._over_limit:
                raise _too_much(tool, memory_limit)
            raise ProcessDied(f"The process of {tool} {self._ending()}.", tool=tool)
        if "outcome" in end:
            return outcome_from_json(end["outcome"])
        crash = exception_of(end["crash"])
        if isinstance(crash, MemoryError) and memory_limit:
            await self.kill()
            raise _too_much(tool, memory_limit) from crash
        raise crash

    async def _calm(self, visit: IsolatedAttempt) -> None:
        """Let a cancelled tool unwind; one that does not loses its process."""
        self._say({"cancel": True})
        try:
            async with asyncio.timeout(_PATIENCE):
                await visit.over.wait()
        except TimeoutError:
            log.info("tool.killed", pid=self._process.pid)
            await self.kill()

    async def _watch(self, limit: int | None) -> None:
        """Kill the process when it uses more memory than its tool may."""
        while limit is not None:
            try:
                resident = _resident(self._process.pid)
            except (OSError, IndexError):
                return  # it is gone, or this system does not tell: then the limit it set itself has to do
            if resident > limit:
                self._over_limit = True
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                return
            await asyncio.sleep(_LOOK_EVERY)

    def _say(self, message: Message) -> None:
        if not self._writer.is_closing():
            self._writer.write(frame(message))

    def _ending(self) -> str:
        code = self._process.returncode
        if code is None:
            return "does not answer"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended by itself with exit code {code}"


def _resident(pid: int) -> int:
    """Bytes of memory a process uses."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def _too_much(tool: str, limit: int | None) -> MemoryExceeded:
    return MemoryExceeded(f"{tool} used more memory than its limit of {limit:,} bytes.", tool=tool)
