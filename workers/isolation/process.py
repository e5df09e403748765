"""One tool process, from the worker's side: it runs one attempt at a time, and can be killed.

The other side is `cli/isolated/main.py`. Progress, questions, steps and files of the tool are handled in the worker, as
if the tool ran there (`attempt.py`).
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
from taskmill.workers.isolation.messages import Message, encoded, exception_from_json, read_message

__all__ = ["ToolProcess"]

log = structlog.get_logger()
_UNWIND_TIMEOUT = 0.3
"""Seconds a cancelled tool gets to unwind; then its process gets as many to end on SIGTERM."""
_START_TIMEOUT = 60.0
_CLOSE_TIMEOUT = 3.0
_CHECK_EVERY = 0.05
"""Seconds between checks of the memory of a process that has a limit."""
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
                start_new_session=True,  # its own process group, so that what the tool starts is killed with it
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        opened = cls(process, reader, writer)
        try:
            async with asyncio.timeout(_START_TIMEOUT):
                first = await read_message(reader)
        except BaseException:
            await opened.kill()
            raise
        if first is None or "ready" not in first:
            await opened.kill()
            why = first["failure"] if first else f"it {opened._ending()}"
            raise ServerLoadError(f"The process for isolated tools could not start: {why}")
        return opened

    @property
    def is_healthy(self) -> bool:
        """Whether it can run another attempt."""
        return self._process.returncode is None and not self._stopped

    async def run(self, request: Message, context: TaskContext, *, memory_limit: int | None) -> Outcome:
        """Run one attempt there. A cancel cancels the tool too; if it does not unwind at once, its process is killed.

        Raises:
            ProcessDied, MemoryExceeded: the process is gone.
            BaseException: whatever the tool raised.
        """
        attempt = IsolatedAttempt(self._writer, context)
        reading = asyncio.create_task(attempt.read_all(self._reader))
        watching = asyncio.create_task(self._watch(memory_limit)) if memory_limit else None
        try:
            self._send({"run": {**request, "memory_limit": memory_limit}})
            return await self._outcome_of(request["tool"], await attempt.serve(), memory_limit)
        except asyncio.CancelledError:
            await self._unwind(attempt)
            raise
        finally:
            attempt.close()
            for task in (reading, watching):
                if task is not None:
                    task.cancel()
            if attempt.is_stuck and not self._stopped:
                log.info("tool.killed", pid=self._process.pid)
                await self.kill()

    async def close(self) -> None:
        """Let an idle process close the server's lifespan and end; one that does not end is killed."""
        self._writer.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._process.wait()
        await self.kill()

    async def kill(self) -> None:
        """End the process and all that it has started: SIGTERM, then SIGKILL. Returns when the process is gone."""
        self._stopped = True
        self._writer.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with suppress(TimeoutError):
                async with asyncio.timeout(_UNWIND_TIMEOUT):
                    await self._process.wait()
        await self._process.wait()

    async def _outcome_of(self, tool: str, end: Message | None, memory_limit: int | None) -> Outcome:
        if end is None:
            await self.kill()
            if self._over_limit:
                raise _too_much(tool, memory_limit)
            raise ProcessDied(f"The process of {tool} {self._ending()}.", tool=tool)
        if "outcome" in end:
            return outcome_from_json(end["outcome"])
        error = exception_from_json(end["crash"])
        if isinstance(error, MemoryError) and memory_limit:
            await self.kill()
            raise _too_much(tool, memory_limit) from error
        raise error

    async def _unwind(self, attempt: IsolatedAttempt) -> None:
        """Let a cancelled tool unwind; if it does not, kill its process."""
        self._send({"cancel": True})
        try:
            async with asyncio.timeout(_UNWIND_TIMEOUT):
                await attempt.ended.wait()
        except TimeoutError:
            log.info("tool.killed", pid=self._process.pid)
            await self.kill()

    async def _watch(self, limit: int | None) -> None:
        """Kill the process when it uses more memory than its tool may use."""
        while limit is not None:
            try:
                resident = _resident(self._process.pid)
            except (OSError, IndexError):
                return  # it is gone, or this system has no /proc: then only the limit that it set itself applies
            if resident > limit:
                self._over_limit = True
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                return
            await asyncio.sleep(_CHECK_EVERY)

    def _send(self, message: Message) -> None:
        if not self._writer.is_closing():
            self._writer.write(encoded(message))

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
