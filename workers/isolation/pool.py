"""The tool processes of a worker: which one runs an attempt, and which are kept for later ones.

`process.py` talks to one of them.
"""

import asyncio
import itertools
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Self

import structlog

from taskmill.engine.context import TaskContext
from taskmill.engine.errors import ServerLoadError
from taskmill.engine.outcome import Outcome
from taskmill.engine.policy import Limits, TaskConfig
from taskmill.workers.isolation.process import ToolProcess, ToolProgram

__all__ = ["ProcessPool"]

log = structlog.get_logger()
_KEPT = 4
"""Used processes that wait for their caller's next task, at least; more where more run at once."""

_Use = tuple[str, Limits]
"""Whose tasks a process runs, and the limits that it can never raise."""


class ProcessPool(AbstractAsyncContextManager["ProcessPool"]):
    """As many as there are attempts at once; healthy ones are kept for tasks of the same use."""

    def __init__(self, program: ToolProgram, limits: Limits, uses: int) -> None:
        """`limits`: the most that any tool may have. `uses`: tasks that one process runs."""
        self._program = program
        self._limits = limits
        self._uses = uses
        self._fresh: ToolProcess | None = None
        """One that has run nothing yet."""
        self._idle: list[tuple[_Use, ToolProcess]] = []
        """Those that have, the one used last at the end."""
        self._all: set[ToolProcess] = set()
        self._busy = 0
        self._most_busy = 0
        self._starting: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count()

    async def __aenter__(self) -> Self:
        self._start_fresh()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        idle = {process for _, process in self._idle} | ({self._fresh} if self._fresh is not None else set())
        busy = self._all - idle
        ends = [*(process.kill() for process in busy), *(process.close() for process in idle), *self._closing]
        await asyncio.gather(*ends)

    async def run(self, request: dict[str, Any], context: TaskContext, policy: TaskConfig) -> Outcome:
        """Run one attempt in a process that no other attempt uses meanwhile."""
        limits = policy.limits.within(self._limits)
        use = (self._owner(policy, context), _limits_for_life(limits))
        process = await self._take(use)
        self._busy += 1
        self._most_busy = max(self._busy, self._most_busy)
        try:
            return await process.run(request, context, limits=limits)
        finally:
            self._busy -= 1
            self._keep(use, process, is_used_up=policy.reuse == "never")

    def _owner(self, policy: TaskConfig, context: TaskContext) -> str:
        match policy.reuse:
            case "any":
                return ""
            case "never":
                return f"task {next(self._numbers)}"
            case "principal":
                return f"principal {context.principal}"

    async def _take(self, use: _Use) -> ToolProcess:
        for place in range(len(self._idle) - 1, -1, -1):
            if self._idle[place][0] == use:
                process = self._idle.pop(place)[1]
                if process.is_healthy:
                    return process
                self._all.discard(process)
        while self._fresh is None and self._starting is not None:
            await asyncio.shield(self._starting)
            self._starting = None
        fresh, self._fresh = self._fresh, None
        process = fresh if fresh is not None and fresh.is_healthy else await self._open()
        if self._idle:
            # Callers alternate: the next one finds a process that is ready, as this one did.
            self._start_fresh()
        return process

    def _keep(self, use: _Use, process: ToolProcess, *, is_used_up: bool) -> None:
        if not process.is_healthy:
            self._all.discard(process)
            return
        if is_used_up or process.uses >= self._uses:
            self._close(process)
            self._start_fresh()
            return
        self._idle.append((use, process))
        if len(self._idle) > max(_KEPT, self._most_busy):
            self._close(self._idle.pop(0)[1])

    def _close(self, process: ToolProcess) -> None:
        closing = asyncio.create_task(process.close(), name="taskmill.closing_tool_process")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        self._all.discard(process)

    async def _open(self) -> ToolProcess:
        process = await ToolProcess.open(self._program)
        self._all.add(process)
        return process

    def _start_fresh(self) -> None:
        if self._fresh is None and (self._starting is None or self._starting.done()):
            self._starting = asyncio.create_task(self._open_fresh(), name="taskmill.tool_processes")

    async def _open_fresh(self) -> None:
        """Start one process before a task needs it. If that fails, the task that needs one gets the error."""
        try:
            self._fresh = await self._open()
        except (ServerLoadError, OSError, TimeoutError) as exc:
            log.error("cell.failed", error=str(exc))


def _limits_for_life(limits: Limits) -> Limits:
    """Those that a process sets itself and cannot raise again; the others begin again with each attempt."""
    return replace(limits, cpu=None, processes=None)
