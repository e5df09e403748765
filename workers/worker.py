"""The worker process: an arq worker with a loop of its own (`loop.py`), and with arq's queue, keys and formats."""

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable

import arq.worker
import structlog

from taskmill.engine.ports import ToolSource
from taskmill.store.pubsub.wakeup import QueueWakeup
from taskmill.workers.arq_worker import arq_arguments
from taskmill.workers.child_processes import end_child_processes
from taskmill.workers.loop import WorkerLoop
from taskmill.workers.process_signals import handle_signal
from taskmill.workers.runtime import open_worker_runtime
from taskmill.workers.settings import WorkerSettings

__all__ = ["Worker"]

log = structlog.get_logger()


def _nothing() -> None:
    pass


def _ignore(_active: int) -> None:
    pass


class Worker(arq.worker.Worker):
    """Serves one queue until it is asked to stop. `idle_exit`: it stops by itself after so many idle seconds.

    `outdated` returns when other workers should take over: this one then claims no more, and ends with its last task.
    """

    def __init__(
        self,
        source: ToolSource,
        settings: WorkerSettings,
        *,
        idle_exit: float | None = None,
        outdated: Callable[[], Awaitable[object]] | None = None,
        on_ready: Callable[[], None] = _nothing,
        on_drain: Callable[[int], None] = _ignore,
    ) -> None:
        """`on_ready`: called when it can be seen and can run tasks; `on_drain`: with the number of active tasks."""
        settings = settings.at_own_shard()
        super().__init__(**arq_arguments(settings), handle_signals=False)
        self._source = source
        self._settings = settings
        self._idle_exit = idle_exit
        self._outdated = outdated
        self._on_ready = on_ready
        self._on_drain = on_drain
        self._work_loop: WorkerLoop | None = None

    def run(self) -> None:
        """Work until drained, in this thread. A tool's `sys.exit()` in a task of its own does not end it.

        Raises:
            StoreUnavailable, RedisUnfit, SettingsError: at the start only; later outages are waited out.
        """
        self.loop.close()  # arq's, which never ran: since Python 3.13 the end of an open one is a traceback
        self.loop = _fast_loop()
        asyncio.set_event_loop(self.loop)
        self.main_task = self.loop.create_task(self.main())
        while not self.main_task.done():
            try:
                self.loop.run_until_complete(self.main_task)
            except asyncio.CancelledError:
                log.debug("worker.stopped_at_start")  # `run` says in its own line why it stopped everything
            except (SystemExit, KeyboardInterrupt) as exc:
                log.error("tool.exited_in_background", error=type(exc).__name__)
        end_child_processes()
        if not self.main_task.cancelled():  # by a signal at the start
            self.main_task.result()

    async def main(self) -> None:
        """Open the runtime, run the loop, close."""
        for number in (signal.SIGTERM, signal.SIGINT):
            handle_signal(number, self._drain)
        async with open_worker_runtime(self._source, self._settings) as runtime:
            wakeup = QueueWakeup(self._settings, runtime.store.keys, runtime.queues)
            self._work_loop = loop = WorkerLoop(runtime, wakeup, idle_exit=self._idle_exit)
            # What the start has created lives as long as the process: the collector need not scan it again and again.
            gc.collect()
            gc.freeze()
            self._on_ready()
            watching = self.loop.create_task(self._watch(loop))
            try:
                await loop.work()
            finally:
                watching.cancel()
                await wakeup.close()

    def _drain(self) -> None:
        if self._work_loop is None:
            assert self.main_task is not None, "it set this handler"
            # Nothing was claimed yet, so nothing is left to finish. What is open is closed, whatever hangs.
            self.main_task.cancel()
            return
        self._on_drain(self._work_loop.running)
        self._work_loop.drain()

    async def _watch(self, loop: WorkerLoop) -> None:
        if self._outdated is not None:
            await self._outdated()
            loop.retire()

    async def close(self) -> None:
        """Nothing is left to close: `main` returns only when everything has stopped."""


def _fast_loop() -> asyncio.AbstractEventLoop:
    """The event loop that `taskmill serve` also runs on; asyncio's own where uvloop does not exist."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
