"""The worker that a FastMCP server brings along in its own process: `Tasks(worker=True)`."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastmcp import FastMCP

from taskmill.adapters.fastmcp.toolbox import FastMCPToolbox
from taskmill.adapters.fastmcp.tools import FastMCPTools
from taskmill.adapters.fastmcp.worker_process import prepare_process
from taskmill.server.settings import ServerSettings
from taskmill.store.settings import read_settings
from taskmill.workers.in_process import running_worker
from taskmill.workers.loop import WorkerLoop
from taskmill.workers.settings import WorkerSettings

__all__ = ["worker_of"]


class _Tools:
    """The tools of a server whose lifespans this process has entered, or enters now."""

    def __init__(self, server: FastMCP[Any], tools: FastMCPTools) -> None:
        self._server = server
        self._tools = tools

    @asynccontextmanager
    async def toolbox(self) -> AsyncIterator[FastMCPToolbox]:
        """See `ToolSource`."""
        prepare_process()
        yield FastMCPToolbox(self._server, self._tools)


def worker_of(
    server: FastMCP[Any], tools: FastMCPTools, settings: ServerSettings
) -> AbstractAsyncContextManager[WorkerLoop]:
    """A worker for all queues of the tools, on the server's store. It takes `TASKMILL_*` of workers as well.

    Raises:
        SettingsError: the queues are on several shards.
    """
    shared = settings.model_dump(include=set(WorkerSettings.model_fields))
    queues = sorted({policy.queue for policy in tools.policies().values()}) or ["default"]
    worker = read_settings(WorkerSettings, **{**shared, "queue": ",".join(queues)})
    return running_worker(_Tools(server, tools), worker.at_own_shard())
