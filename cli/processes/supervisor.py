"""One server and its workers for one file, as child processes that are started again when they die.

Failing the first start is final: the file or the settings are wrong. A later death is not: others keep the store.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import structlog

from taskmill.cli.errors import Reported
from taskmill.cli.processes.child import Child
from taskmill.store.embedded.server import EmbeddedRedis
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.stats import queues_of

__all__ = ["ProcessPlan", "Supervisor", "kept_redis"]

log = structlog.get_logger()

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 30.0
_LONG_LIFE = 60.0
"""Seconds after which an earlier death counts no more."""
_FAREWELL = 10.0
"""Seconds beyond a worker's grace until it is killed."""
_BREATH = 0.1


@dataclass(frozen=True)
class ProcessPlan:
    """What to start, as command line words."""

    file: str
    server: tuple[str, ...] = ()
    """Flags of `taskmill serve`, without the port."""
    worker: tuple[str, ...] = ()
    """Flags of `taskmill worker`."""
    both: tuple[str, ...] = ()
    """Flags of both."""
    port: int | None = None
    """None = what the settings say; 0 = any free one."""
    workers: int = 1
    """Worker processes a queue."""
    grace: float = 30.0
    """Seconds a worker gives running tasks when it is stopped."""
    output: IO[Any] | int | None = None
    """Where children write, None = standard error."""


@asynccontextmanager
async def kept_redis(settings: StoreSettings) -> AsyncIterator[None]:
    """Keep the embedded Redis up, if that is what the settings mean.

    Each child holds it for itself, too; this hold starts it early and lasts when all of them are down.

    Raises:
        NoRedisServer, SettingsError, OperatorError: there is none to be had; see `EmbeddedRedis.start`.
    """
    if settings.redis_url is not None:
        yield
        return
    redis = EmbeddedRedis(settings.home)
    starting = asyncio.create_task(asyncio.to_thread(redis.start))
    try:
        # A start under way cannot be called off, and must not meet the stop.
        await asyncio.shield(starting)
        yield
    finally:
        await asyncio.wait([starting])
        await asyncio.to_thread(redis.stop)


class SupervisedChild:
    """A place in the crew that is kept manned."""

    def __init__(self, make: Callable[[], Child]) -> None:
        self._make = make
        self.child = make()
        self._keeping: asyncio.Task[None] | None = None

    async def open(self) -> dict[str, Any]:
        """Start the child; what it says about itself.

        Raises:
            Reported: it could not start.
        """
        facts = await self.child.start()
        self._keeping = asyncio.create_task(self._keep())
        return facts

    async def close(self, patience: float) -> None:
        """End the child, and start none again."""
        self.abandon()
        await self.child.end(patience)

    def abandon(self) -> None:
        """Start no child again."""
        if self._keeping is not None:
            self._keeping.cancel()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        deaths = 0
        while True:
            since = loop.time()
            code = await self.child.wait()
            deaths = 1 if loop.time() - since > _LONG_LIFE else deaths + 1
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(deaths - 1, 20)) * random.uniform(0.8, 1.2)
            say = log.warning if code else log.info
            say(
                "child.ended",
                role=self.child.role,
                pid=self.child.pid,
                why=await self.child.last_words(),
                restart_in=round(pause, 2),
            )
            self.child.forget()
            await asyncio.sleep(pause)
            self.child = self._make()
            try:
                await self.child.start()
            except Reported:
                continue  # it has ended, and the next round says why
            log.info("child.started", role=self.child.role, pid=self.child.pid)


class Supervisor:
    """A server and its workers."""

    def __init__(self, orders: ProcessPlan) -> None:
        self._orders = orders
        self._port = orders.port
        self._server = SupervisedChild(self._new_server)
        self._workers = [SupervisedChild(self._new_worker) for _ in range(orders.workers)]

    async def start(self) -> dict[str, Any]:
        """Start everybody; what the server says about itself once all are at work.

        Raises:
            Reported: somebody could not start; everybody else has ended then, too.
        """
        openings = [asyncio.create_task(post.open()) for post in (self._server, *self._workers)]
        try:
            facts, *served = await asyncio.gather(*openings)
            # The server serves on under the same address when it is started again.
            self._port = int(facts["port"])
            missing = sorted(set(facts["queues"]) - {name for told in served for name in queues_of(told)})
            more = [SupervisedChild(partial(self._new_worker, queue)) for queue in missing for _ in self._workers]
            self._workers += more
            await asyncio.gather(*(post.open() for post in more))
        except BaseException:
            for opening in openings:
                opening.cancel()
            await self.stop(hurry=True)
            raise
        return facts

    async def stop(self, *, hurry: bool = False) -> None:
        """End everybody: workers finish what they can within their grace; `hurry`: they give it back at once."""
        closing = [post.close(self._orders.grace + _FAREWELL) for post in (self._server, *self._workers)]
        ending = asyncio.gather(*closing)
        if hurry:
            # Two signals in one moment are one.
            await asyncio.sleep(_BREATH)
            self.hurry()
        await ending

    def hurry(self) -> None:
        """Have workers that are about to end give their tasks back."""
        for post in self._workers:
            post.child.ask_to_end()

    async def leave_workers(self, log_file: Path) -> None:
        """End the server and let the workers go: they end by themselves when they are idle."""
        for post in self._workers:
            post.abandon()
            post.child.let_go(log_file)
        await self._server.close(_FAREWELL)

    def _new_server(self) -> Child:
        port = () if self._port is None else ("--port", str(self._port))
        orders = self._orders
        return Child("serve", [orders.file, *orders.server, *orders.both, *port], output=orders.output)

    def _new_worker(self, queue: str | None = None) -> Child:
        chosen = () if queue is None else ("--queue", queue)
        orders = self._orders
        return Child("worker", [orders.file, *orders.worker, *orders.both, *chosen], output=orders.output)
