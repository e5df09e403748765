"""A worker inside a process that does other things as well: a server that brings one along, or a test.

No signals are handled, and nothing ends but this worker. The worker that is a process is in `worker.py`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from taskmill.engine.ports import ToolSource
from taskmill.store.pubsub.wakeup import QueueWakeup
from taskmill.workers.loop import WorkerLoop
from taskmill.workers.runtime import open_worker_runtime
from taskmill.workers.settings import WorkerSettings

__all__ = ["running_worker"]


@asynccontextmanager
async def running_worker(source: ToolSource, settings: WorkerSettings) -> AsyncIterator[WorkerLoop]:
    """A worker that runs in this process; it drains at the end."""
    async with open_worker_runtime(source, settings) as runtime:
        wakeup = QueueWakeup(settings, runtime.store.keys, runtime.queues)
        loop = WorkerLoop(runtime, wakeup)
        running = asyncio.create_task(loop.work(), name="taskmill.worker")
        try:
            yield loop
        finally:
            loop.drain()
            await running
            await wakeup.close()
