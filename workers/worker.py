"""The worker process: an arq worker whose loop is ours (`shift.py`), with arq's queue, keys and formats."""

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable

import arq.worker
import structlog

from taskmill.engine.ports import ToolSource
from taskmill.store.pubsub.wakeup import QueueWakeup
from taskmill.workers.arq_worker import arq_arguments
from taskmill.workers.loop import WorkerLoop
from taskmill.workers.runtime import open_worker_runtime
from taskmill.workers.settings import WorkerSettings

__all__ = ["Worker"]

log = structlog.get_logger()


class Worker(arq.worker.Worker):
    """Serves one queue until it is told to stop. `idle_exit`: it stops by itself after so many idle seconds.

    `outdated` returns when others should take over: the worker then takes nothing more on, and ends with its last task.
    """

    def __init__(
        self,
        source: ToolSource,
        settings: WorkerSettings,
        *,
        idle_exit: float | None = None,
        outdated: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        settings = settings.at_own_shard()
        super().__init__(**arq_arguments(settings), handle_signals=False)
        self._source = source
        self._settings = settings
        self._idle_exit = idle_exit
        self._outdated = outdated

    def run(self) -> None:
        """Work until drained, in this thread. A tool's `sys.exit()` in a task of its own does not end it.

        Raises:
            StoreUnavailable, RedisUnfit, SettingsError: at the start only; later outages are waited out.
        """
        self.loop = _fast_loop()
        asyncio.set_event_loop(self.loop)
        self.main_task = self.loop.create_task(self.main())
        while not self.main_task.done():
            try:
                self.loop.run_until_complete(self.main_task)
            except (SystemExit, KeyboardInterrupt) as exc:
                log.error("tool.exited_in_background", error=type(exc).__name__)
        self.main_task.result()

    async def main(self) -> None:
        """The worker's life: open the station, work the shift, leave."""
        async with open_worker_runtime(self._source, self._settings) as station:
            bell = QueueWakeup(self._settings, station.store.keys, self._settings.queue)
            shift = WorkerLoop(station, bell, idle_exit=self._idle_exit)
            for number in (signal.SIGTERM, signal.SIGINT):
                self.loop.add_signal_handler(number, shift.drain)
            # What the start has made lives as long as the process: the collector need not look at it again and again.
            gc.collect()
            gc.freeze()
            watching = self.loop.create_task(self._watch(shift))
            try:
                await shift.work()
            finally:
                watching.cancel()
                await bell.close()

    async def _watch(self, shift: WorkerLoop) -> None:
        if self._outdated is not None:
            await self._outdated()
            shift.retire()

    async def close(self) -> None:
        """Nothing is left to close: `main` returns only when everything has stopped."""


def _fast_loop() -> asyncio.AbstractEventLoop:
    """The loop that `taskmill serve` runs on too; asyncio's own on systems for which it is not made."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
