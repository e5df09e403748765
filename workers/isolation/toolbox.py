"""Runs the tools that ask for it in processes of their own: a toolbox around the worker's, and warm processes.

Which process runs what is decided here; what is said to one is in `cell.py`.
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


_CELL = "taskmill.cli.isolated.main"
"""The program of such a process; it is started, never imported here."""


class IsolatingTools:
    """A tool source whose isolated tools run in processes of their own, which load the same server."""

    def __init__(self, source: ToolSource) -> None:
        """`source`: its `import_path` says what a process has to load."""
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
            async with _WarmProcesses([sys.executable, "-m", _CELL, target]) as cells:
                yield _IsolatingToolbox(inside, cells)


class _WarmProcesses(AbstractAsyncContextManager["_WarmProcesses"]):
    """The processes: as many as there are attempts, kept for the next ones while they are healthy."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._idle: list[ToolProcess] = []
        self._all: set[ToolProcess] = set()
        self._warming: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._warming = asyncio.create_task(self._warm(), name="taskmill.cells")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.wait([self._warming])
        busy = self._all.difference(self._idle)
        await asyncio.gather(*(cell.kill() for cell in busy), *(cell.close() for cell in self._idle))

    async def run(self, order: dict[str, Any], context: TaskContext, memory_limit: int | None) -> Outcome:
        """Run one attempt in a process that nobody else uses meanwhile."""
        cell = await self._take()
        try:
            return await cell.run(order, context, memory_limit=memory_limit)
        finally:
            if cell.is_healthy:
                self._idle.append(cell)
            else:
                self._all.discard(cell)

    async def _take(self) -> ToolProcess:
        while self._idle:
            cell = self._idle.pop()
            if cell.is_healthy:
                return cell
            self._all.discard(cell)
        if self._warming is not None and not self._warming.done():
            await asyncio.shield(self._warming)
            self._warming = None
            return await self._take()
        return await self._open()

    async def _open(self) -> ToolProcess:
        cell = await ToolProcess.open(self._command)
        self._all.add(cell)
        return cell

    async def _warm(self) -> None:
        """Have one ready before the first task comes. What goes wrong is told to a task that needs it."""
        try:
            self._idle.append(await self._open())
        except (ServerLoadError, OSError, TimeoutError) as exc:
            log.error("cell.failed", error=str(exc))


class _IsolatingToolbox:
    """The worker's toolbox, whose isolated tools run elsewhere."""

    def __init__(self, inside: Toolbox, cells: _WarmProcesses) -> None:
        self._inside = inside
        self._cells = cells
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
        order = {
            "tool": tool,
            "payload": dict(payload),
            "task_id": context.task_id,
            "attempt": context.attempt,
            "fence": context.fence,
            "principal": context.principal,
            "inline_limit": context.inline_limit,
            "state": context.journal.state,
        }
        return await self._cells.run(order, context, policy.memory_limit)
