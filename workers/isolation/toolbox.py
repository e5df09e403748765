"""Runs isolated tools in processes of their own: a toolbox around the worker's, and the pool of tool processes.

This decides which process runs an attempt; `process.py` talks to one.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self

import structlog

from taskmill.engine.context import TaskContext
from taskmill.engine.errors import ServerLoadError
from taskmill.engine.outcome import Outcome
from taskmill.engine.policy import TaskConfig
from taskmill.engine.ports import Toolbox, ToolSource
from taskmill.workers.isolation.process import ToolProcess

__all__ = ["IsolatingTools"]

log = structlog.get_logger()

_PROGRAM = "taskmill.cli.isolated.main"
"""The program of a tool process; it is started, never imported here."""


class IsolatingTools:
    """A tool source whose isolated tools run in processes of their own, which load the same server."""

    def __init__(self, source: ToolSource) -> None:
        """`source.import_path` says what a tool process has to load."""
        self._source = source

    @asynccontextmanager
    async def toolbox(self) -> AsyncIterator[Toolbox]:
        """The source's toolbox; every process that was started for it ends with it.

        Raises:
            ServerLoadError: a tool is to be isolated, and no module has the server.
        """
        async with self._source.toolbox() as inside:
            if not any(policy.isolation == "process" for policy in inside.policies().values()):
                yield inside
                return
            target = getattr(self._source, "import_path", None)
            if target is None:
                raise ServerLoadError(
                    "A tool has isolation='process', but no other process can load this server: "
                    "make it an object at the top level of a module."
                )
            async with _ProcessPool([sys.executable, "-m", _PROGRAM, target]) as processes:
                yield _IsolatingToolbox(inside, processes)


class _ProcessPool(AbstractAsyncContextManager["_ProcessPool"]):
    """The tool processes: as many as there are attempts at once; healthy ones are kept for the next attempts."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._idle: list[ToolProcess] = []
        self._all: set[ToolProcess] = set()
        self._first_start: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._first_start = asyncio.create_task(self._start_first(), name="taskmill.tool_processes")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._first_start is not None:
            self._first_start.cancel()
            await asyncio.wait([self._first_start])
        busy = self._all.difference(self._idle)
        await asyncio.gather(*(process.kill() for process in busy), *(process.close() for process in self._idle))

    async def run(self, request: dict[str, Any], context: TaskContext, memory_limit: int | None) -> Outcome:
        """Run one attempt in a process that no other attempt uses meanwhile."""
        process = await self._take()
        try:
            return await process.run(request, context, memory_limit=memory_limit)
        finally:
            if process.is_healthy:
                self._idle.append(process)
            else:
                self._all.discard(process)

    async def _take(self) -> ToolProcess:
        while self._idle:
            process = self._idle.pop()
            if process.is_healthy:
                return process
            self._all.discard(process)
        if self._first_start is not None and not self._first_start.done():
            await asyncio.shield(self._first_start)
            self._first_start = None
            return await self._take()
        return await self._open()

    async def _open(self) -> ToolProcess:
        process = await ToolProcess.open(self._command)
        self._all.add(process)
        return process

    async def _start_first(self) -> None:
        """Start one process before the first task comes. If that fails, a task that needs one gets the error."""
        try:
            self._idle.append(await self._open())
        except (ServerLoadError, OSError, TimeoutError) as exc:
            log.error("cell.failed", error=str(exc))


class _IsolatingToolbox:
    """The worker's toolbox, whose isolated tools run in tool processes."""

    def __init__(self, inside: Toolbox, processes: _ProcessPool) -> None:
        self._inside = inside
        self._processes = processes
        self.policy: Callable[[str], TaskConfig | None] = inside.policy
        self.policies: Callable[[], Mapping[str, TaskConfig]] = inside.policies
        self.failure_outcome: Callable[[str, BaseException, str], Outcome] = inside.failure_outcome

    async def run(self, tool: str, payload: Mapping[str, Any], context: TaskContext) -> Outcome:
        """Run one attempt where its policy says.

        Raises:
            ProcessDied, MemoryExceeded: the tool's process is gone.
            ServerLoadError: its process cannot be started.
            BaseException: whatever the tool raised.
        """
        policy = self._inside.policy(tool)
        if policy is None or policy.isolation != "process":
            return await self._inside.run(tool, payload, context)
        request = {
            "tool": tool,
            "payload": dict(payload),
            "task_id": context.task_id,
            "attempt": context.attempt,
            "fence": context.fence,
            "principal": context.principal,
            "inline_limit": context.inline_limit,
            "state": context.journal.state,
        }
        return await self._processes.run(request, context, policy.memory_limit)
