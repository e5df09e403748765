"""`taskmill run`: Redis, one server and its workers with one command, until it is told to stop."""

import asyncio
import signal

import structlog

from taskmill.cli.processes.supervisor import ProcessPlan, Supervisor, kept_redis
from taskmill.cli.serving.ready_line import ready_line
from taskmill.store.settings import StoreSettings

__all__ = ["run"]

log = structlog.get_logger()


async def run(orders: ProcessPlan, settings: StoreSettings) -> None:
    """Keep everything up; returns after SIGTERM, SIGINT or SIGHUP, when everything has ended in order.

    Raises:
        Reported: the server or a worker could not start.
        NoRedisServer, SettingsError, OperatorError: there is no embedded Redis to be had.
    """
    told = _Told()
    async with kept_redis(settings):
        crew = Supervisor(orders)
        starting = asyncio.create_task(crew.start())
        if not await told.before(starting):
            starting.cancel()
            await asyncio.wait([starting])
            return
        print(ready_line(starting.result()), flush=True)
        await told.once.wait()
        log.info("run.stopping")
        ending = asyncio.create_task(crew.stop())
        if await told.again_before(ending):
            crew.hurry()
        await ending
    log.info("run.stopped")


class _Told:
    """What signals said: end, and then: hurry."""

    def __init__(self) -> None:
        self.once = asyncio.Event()
        self.twice = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # `nohup` has it ignored, and means it.
            if signal.getsignal(number) is not signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, self._hear)

    def _hear(self) -> None:
        (self.twice if self.once.is_set() else self.once).set()

    async def before(self, task: asyncio.Task[object]) -> bool:
        """Wait for `task`; False if the first signal came before its end."""
        return not await _first(self.once, task)

    async def again_before(self, task: asyncio.Task[None]) -> bool:
        """Wait for `task`; True if the second signal came before its end."""
        return await _first(self.twice, task)


async def _first(event: asyncio.Event, task: "asyncio.Task[object] | asyncio.Task[None]") -> bool:
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait([waiting, task], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return not task.done()
