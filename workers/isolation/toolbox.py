"""Runs isolated tools in processes of their own: a toolbox around the worker's.

Which process runs an attempt is decided in `pool.py`.
"""

import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import structlog

from taskmill.engine.context import TaskContext
from taskmill.engine.errors import ServerLoadError
from taskmill.engine.outcome import Outcome
from taskmill.engine.policy import TaskConfig
from taskmill.engine.ports import ScheduledCall, Toolbox, ToolSource
from taskmill.workers.isolation.environment import environment_of_tools
from taskmill.workers.isolation.pool import ProcessPool
from taskmill.workers.isolation.process import ToolProgram
from taskmill.workers.isolation.secrets import close_process, cover_secrets, secrets_of
from taskmill.workers.settings import WorkerSettings

__all__ = ["IsolatingTools"]

log = structlog.get_logger()

_PROGRAM = "taskmill.cli.isolated.main"
"""The program of a tool process; it is started, never imported here."""


class IsolatingTools:
    """A tool source whose isolated tools run in processes of their own, which load the same server."""

    def __init__(self, source: ToolSource, settings: WorkerSettings) -> None:
        """`source.import_path` says what a tool process has to load."""
        self._source = source
        self._settings = settings

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
            settings = self._settings
            program = self._program(target)
            close_process()
            cover_secrets(secrets_of(settings, os.environ))
            async with ProcessPool(program, settings.isolation_limits, settings.isolation_uses) as processes:
                yield _IsolatingToolbox(inside, processes)

    def _program(self, target: str) -> ToolProgram:
        environment, withheld = environment_of_tools(os.environ, self._settings)
        if withheld:
            log.warning(
                "isolation.variables_withheld",
                names=withheld,
                hint="they hold what opens Redis or the bucket; TASKMILL_ISOLATION_ENV can name them",
            )
        command = (*self._settings.isolation_prefix, sys.executable, "-m", _PROGRAM, target)
        return ToolProgram(command, environment, frozenset(os.environ) - frozenset(environment))


class _IsolatingToolbox:
    """The worker's toolbox, whose isolated tools run in tool processes."""

    def __init__(self, inside: Toolbox, processes: ProcessPool) -> None:
        self._inside = inside
        self._processes = processes
        self.policy: Callable[[str], TaskConfig | None] = inside.policy
        self.policies: Callable[[], Mapping[str, TaskConfig]] = inside.policies
        self.scheduled_call: Callable[[str], ScheduledCall] = inside.scheduled_call
        self.failure_outcome: Callable[[str, BaseException, str], Outcome] = inside.failure_outcome

    async def run(self, tool: str, payload: Mapping[str, Any], context: TaskContext) -> Outcome:
        """Run one attempt where its policy says.

        Raises:
            ProcessDied, LimitExceeded: the tool's process is gone.
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
        return await self._processes.run(request, context, policy)
