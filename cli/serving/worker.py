"""`taskmill worker`: one worker process. What it does with tasks is `workers/`'s business."""

import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import structlog

from taskmill.cli.errors import only_cause
from taskmill.cli.loading import load_server
from taskmill.cli.processes.exit import exit_now
from taskmill.cli.processes.file_changes import Sources
from taskmill.cli.processes.parent import Parent
from taskmill.cli.settings import redis_for, settings_for
from taskmill.engine.ports import Toolbox
from taskmill.server.tool_host import ToolHost
from taskmill.workers.settings import WorkerSettings
from taskmill.workers.worker import Worker

__all__ = ["warn_of_unused", "work"]

log = structlog.get_logger()


def work(
    file: str, parent: Parent, flags: Mapping[str, Any], *, idle_exit: float | None, leave_when_changed: bool
) -> None:
    """Work until told to stop, for `idle_exit` seconds without a task, or until the server's files have changed.

    Raises:
        ServerLoadError, SettingsError, StoreUnavailable, RedisUnfit: at the start.
    """
    server = load_server(file)
    settings = settings_for(WorkerSettings, server, **flags)
    warn_of_unused(settings, server)
    outdated = Sources(file).changed if leave_when_changed else None
    with redis_for(settings.at_own_shard()) as ready, only_cause():
        Worker(_Source(server, parent, settings.queue), ready, idle_exit=idle_exit, outdated=outdated).run()
    _leave()


def warn_of_unused(settings: WorkerSettings, server: ToolHost) -> None:
    """A queue that was asked for and that no tool uses is perhaps misspelt, or has tasks of an older release."""
    known = {policy.queue for policy in server.policies().values()}
    if "queue" not in settings.model_fields_set or not known:
        return
    for name in settings.queues:
        if name not in known:
            log.warning("queue.unused", queue=name, queues_of_the_tools=sorted(known))


class _Source:
    """The loaded server, which says when the worker has opened it: that is when it can run tasks."""

    def __init__(self, server: ToolHost, parent: Parent, queue: str) -> None:
        self._server = server
        self._parent = parent
        self._queue = queue
        self.import_path = server.import_path

    @asynccontextmanager
    async def toolbox(self) -> AsyncIterator[Toolbox]:
        """The toolbox, inside the server's lifespan."""
        async with self._server.toolbox() as toolbox:
            self._parent.ready({"queue": self._queue})
            yield toolbox


def _leave() -> None:
    """End this process now if plain tools that were left behind still run: the interpreter would wait for them."""
    others = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    if any(not thread.daemon for thread in others):
        exit_now()
