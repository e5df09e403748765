"""One tool process, from the worker's side: it runs one attempt at a time, and can be killed.

The other side is `cli/isolated/main.py`; between the two stands `reaper.py`, which starts it and watches it. Progress,
questions, steps and files of the tool are handled in the worker, as if the tool ran there (`attempt.py`).
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass

import structlog

from taskmill.engine.context import TaskContext
from taskmill.engine.errors import LimitExceeded, MemoryExceeded, ProcessDied, ServerLoadError
from taskmill.engine.outcome import Outcome, outcome_from_json
from taskmill.engine.policy import Limits
from taskmill.workers.isolation import reaper
from taskmill.workers.isolation.attempt import IsolatedAttempt
from taskmill.workers.isolation.messages import Message, UnfitMessage, encoded, exception_from_json, read_message
from taskmill.workers.isolation.reaper_link import ReaperLink

__all__ = ["ToolProcess", "ToolProgram"]

log = structlog.get_logger()
_UNWIND_TIMEOUT = 0.3
"""Seconds a cancelled tool gets to unwind; then its process gets as many to end on SIGTERM."""
_START_TIMEOUT = 60.0
_CLOSE_TIMEOUT = 3.0
_KILL_TIMEOUT = 5.0
_WATCHED = ("memory", "cpu", "processes")
"""Limits that the reaper watches; the process sets the others itself."""


@dataclass(frozen=True, slots=True)
class ToolProgram:
    """What every tool process of a worker is started with."""

    command: tuple[str, ...]
    """Without the descriptor of the channel, which is added as the last word."""
    environment: Mapping[str, str]
    withheld: frozenset[str]
    """Names of the worker's variables that are not in `environment`."""


class ToolProcess:
    """A child process, from `open` to `kill`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        link: ReaperLink,
        channel: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._process = process
        """The reaper, which ends after the tool process and all that it started."""
        self._link = link
        self._reader, self._writer = channel
        self._stopped = False
        self.uses = 0
        """Attempts that it has been given."""

    @classmethod
    async def open(cls, program: ToolProgram) -> "ToolProcess":
        """Start the process; returns when it has loaded the server.

        Raises:
            ServerLoadError: it could not.
        """
        opened = await cls._start(program)
        try:
            async with asyncio.timeout(_START_TIMEOUT):
                first = await opened._first_message()
        except UnfitMessage:
            first = None
        except BaseException:
            await opened.kill()
            raise
        if first is None or "ready" not in first:
            await opened.kill()
            why = str(first.get("failure")) if first else f"it {opened._ending()}"
            raise ServerLoadError(f"The process for isolated tools could not start: {why}{_hint(why, program)}")
        return opened

    async def _first_message(self) -> Message | None:
        return await read_message(self._reader)

    @classmethod
    async def _start(cls, program: ToolProgram) -> "ToolProcess":
        control, its_control = socket.socketpair()
        channel, its_channel = socket.socketpair()
        descriptors = (its_control.fileno(), its_channel.fileno())
        with its_control, its_channel:
            # By file, isolated and without site-packages: nothing of the author's may run in the reaper.
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", reaper.__file__, *map(str, descriptors), *program.command),
                str(its_channel.fileno()),
                pass_fds=descriptors,
                env=program.environment,
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        link = ReaperLink(*await asyncio.open_connection(sock=control))
        return cls(process, link, await asyncio.open_connection(sock=channel))

    @property
    def is_healthy(self) -> bool:
        """Whether it can run another attempt."""
        return self._process.returncode is None and not self._stopped and not self._link.is_lost

    async def run(self, request: Message, context: TaskContext, *, limits: Limits) -> Outcome:
        """Run one attempt there. A cancel cancels the tool too; if it does not unwind at once, its process is killed.

        Raises:
            ProcessDied, LimitExceeded: the process is gone.
            BaseException: whatever the tool raised.
        """
        self.uses += 1
        attempt = IsolatedAttempt(self._writer, context)
        # Before the tool starts: what it starts from now on is not the server's own.
        await self._begin(limits)
        reading = asyncio.create_task(attempt.read_all(self._reader))
        try:
            self._send({"run": {**request, "limits": asdict(limits)}})
            return await self._outcome_of(request["tool"], await attempt.serve(), attempt, limits)
        except asyncio.CancelledError:
            await self._unwind(attempt)
            raise
        finally:
            attempt.close()
            reading.cancel()
            if not self._stopped and (attempt.is_stuck or await self._link.processes_left()):
                log.info("tool.killed", pid=self._link.pid)
                await self.kill()

    async def close(self) -> None:
        """Let an idle process close the server's lifespan and end; one that does not end is killed."""
        self._writer.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._process.wait()
        await self.kill()

    async def kill(self) -> None:
        """End the process and all that it has started: SIGTERM, then SIGKILL. Returns when all are gone."""
        self._stopped = True
        self._writer.close()
        for order, timeout in (("terminate", _UNWIND_TIMEOUT), ("kill", _KILL_TIMEOUT)):
            self._link.send({order: True})
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._process.wait()
        if self._process.returncode is None:
            log.error("tool.not_killed", pid=self._link.pid)
            self._process.kill()
        await self._process.wait()
        await self._link.wait_until_closed()
        if self._link.exit_code is None and self._link.pid is not None:
            # The reaper was killed before its child; the child goes with it, and so does what is in its group.
            with suppress(OSError):
                os.killpg(self._link.pid, signal.SIGKILL)

    async def _begin(self, limits: Limits) -> None:
        watched = {name: value for name in _WATCHED if (value := getattr(limits, name)) is not None}
        try:
            await self._link.begin(watched)
        except asyncio.CancelledError:
            await self.kill()
            raise

    async def _outcome_of(self, tool: str, end: Message | None, attempt: IsolatedAttempt, limits: Limits) -> Outcome:
        try:
            if end is not None and "outcome" in end:
                return outcome_from_json(end["outcome"])
            error = None if end is None else exception_from_json(end["crash"])
        except (LookupError, TypeError, ValueError):
            attempt.is_garbled, error = True, None
        if error is None:
            await self.kill()
            if attempt.is_garbled:
                raise ProcessDied(
                    f"The process of {tool} was killed: it sent its worker something that is no message.", tool=tool
                )
            if (exceeded := self._exceeded(limits)) is not None:
                raise _exceeded_error(tool, exceeded, limits)
            raise ProcessDied(f"The process of {tool} {self._ending()}.", tool=tool)
        assert end is not None
        exceeded = end.get("exceeded")
        if exceeded in asdict(limits) and getattr(limits, exceeded) is not None:
            await self.kill()
            raise _exceeded_error(tool, exceeded, limits) from error
        raise error

    def _exceeded(self, limits: Limits) -> str | None:
        if self._link.exit_code == -signal.SIGXCPU and limits.cpu is not None:
            return "cpu"
        return self._link.exceeded

    async def _unwind(self, attempt: IsolatedAttempt) -> None:
        """Let a cancelled tool unwind; if it does not, kill its process."""
        self._send({"cancel": True})
        try:
            async with asyncio.timeout(_UNWIND_TIMEOUT):
                await attempt.ended.wait()
        except TimeoutError:
            log.info("tool.killed", pid=self._link.pid)
            await self.kill()

    def _send(self, message: Message) -> None:
        if not self._writer.is_closing():
            self._writer.write(encoded(message))

    def _ending(self) -> str:
        code = self._link.exit_code
        if code is None:
            return "does not answer"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended by itself with exit code {code}"


def _exceeded_error(tool: str, limit: str, limits: Limits) -> LimitExceeded:
    kind = MemoryExceeded if limit == "memory" else LimitExceeded
    return kind(limits.exceeded_text(tool, limit), tool=tool)


def _hint(why: str, program: ToolProgram) -> str:
    """For a server that fails to load because it wants a variable that tool processes do not get."""
    wanted = sorted(name for name in program.withheld if name in why)
    if not wanted:
        return ""
    return f" (tool processes do not get {', '.join(wanted)}; TASKMILL_ISOLATION_ENV can name what they need)"
