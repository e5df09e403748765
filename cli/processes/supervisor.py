"""One server and its workers for one file, as child processes that are started again when they die.

If the first start fails, that is final: the file or the settings are wrong. A later crash is not final.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Self

import structlog

from taskmill.cli.errors import CommandFailed
from taskmill.cli.processes.child import Child
from taskmill.cli.processes.prepared import PreparedProcess
from taskmill.store.embedded.server import EmbeddedRedis

__all__ = ["KeptRedis", "ProcessPlan", "Supervisor"]

log = structlog.get_logger()

_FIRST_RESTART_DELAY = 0.25
_MAX_RESTART_DELAY = 30.0
_FORGET_EXITS_AFTER = 60.0
"""Seconds of life after which earlier exits of a child no longer count."""
_STOP_TIMEOUT = 10.0
"""Seconds after a worker's grace until it is killed."""
_BETWEEN_SIGNALS = 0.1


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
    """None = from the settings; 0 = any free one."""
    workers: int = 1
    """Worker processes for each queue."""
    grace: float = 30.0
    """Seconds that a worker gives its active tasks when it is stopped."""
    output: IO[Any] | int | None = None
    """Where children write, None = standard error."""


class KeptRedis:
    """The embedded Redis of the children, if they use it: kept running while none of them runs, until the block ends.

    Only they know whether they need it: a server without task tools does not.
    """

    def __init__(self) -> None:
        self._redis: EmbeddedRedis | None = None
        self._starting: asyncio.Task[str] | None = None

    async def keep(self, home: str | None) -> None:
        """Keep the one with its data in `home`; None, and a second call, change nothing.

        Raises:
            NoRedisServer, SettingsError, OperatorError: it cannot start; see `EmbeddedRedis.start`.
        """
        if home is None or self._redis is not None:
            return
        self._redis = EmbeddedRedis(Path(home))
        self._starting = asyncio.create_task(asyncio.to_thread(self._redis.start))
        # A start cannot be cancelled, and must not run at the same time as the stop.
        await asyncio.shield(self._starting)

    async def __aenter__(self) -> Self:
        """Nothing starts yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let it end."""
        if self._redis is not None and self._starting is not None:
            await asyncio.wait([self._starting])
            await asyncio.to_thread(self._redis.stop)


class SupervisedChild:
    """A child process that is started again when it ends."""

    def __init__(self, new_child: Callable[[], Child]) -> None:
        self._new_child = new_child
        self.process = new_child()
        self._restarting: asyncio.Task[None] | None = None

    async def start(self, on_loaded: Callable[[], Awaitable[None]] | None = None) -> dict[str, Any]:
        """Start the child; the facts that it reports when it is ready. `on_loaded`: see `Child.start`.

        A worker that has no queue to serve ends by itself.

        Raises:
            CommandFailed: it could not start.
        """
        facts = await self.process.start(on_loaded)
        if facts.get("queue") == "":
            await self.process.wait()
            self.process.close()
            return facts
        self._restarting = asyncio.create_task(self._restart_on_exit())
        return facts

    async def stop(self, stop_timeout: float) -> None:
        """Stop the child, and do not start it again."""
        self.stop_restarting()
        await self.process.stop(stop_timeout)

    def stop_restarting(self) -> None:
        """Do not start the child again."""
        if self._restarting is not None:
            self._restarting.cancel()

    async def _restart_on_exit(self) -> None:
        loop = asyncio.get_running_loop()
        exits = 0
        while True:
            since = loop.time()
            code = await self.process.wait()
            exits = 1 if loop.time() - since > _FORGET_EXITS_AFTER else exits + 1
            delay = min(_MAX_RESTART_DELAY, _FIRST_RESTART_DELAY * 2 ** min(exits - 1, 20)) * random.uniform(0.8, 1.2)
            log_exit = log.warning if code else log.info
            log_exit(
                "child.ended",
                role=self.process.role,
                pid=self.process.pid,
                why=await self.process.exit_reason(),
                restart_in=round(delay, 2),
            )
            self.process.close()
            await asyncio.sleep(delay)
            self.process = self._new_child()
            try:
                await self.process.start()
            except CommandFailed:
                continue  # it has ended, and the next round logs why
            log.info("child.started", role=self.process.role, pid=self.process.pid)


class Supervisor:
    """A server and its workers."""

    def __init__(self, plan: ProcessPlan, redis: KeptRedis, prepared: Sequence[PreparedProcess] = ()) -> None:
        """`prepared`: processes that become the first children."""
        self._plan = plan
        self._redis = redis
        self._prepared = list(prepared)
        self._port = plan.port
        self._server = SupervisedChild(self._new_server)
        self._workers = [SupervisedChild(self._new_worker) for _ in range(plan.workers)]
        self._leaving: set[asyncio.Task[None]] = set()
        """Ends of workers with older code."""

    async def start(self) -> dict[str, Any]:
        """Start all; the facts that the server reports, once all are ready.

        Raises:
            CommandFailed: one could not start; the others have been stopped then.
        """
        starts = [asyncio.create_task(child.start()) for child in (self._server, *self._workers)]
        try:
            facts, *worker_facts = await asyncio.gather(*starts)
            # When the server is started again, it must have the same address.
            self._port = int(facts["port"])
            await self._redis.keep(facts["embedded"])
            await self._add_missing_workers(facts, worker_facts)
        except BaseException:
            for starting in starts:
                starting.cancel()
            await self.stop(release_tasks=True)
            raise
        return facts

    async def _add_missing_workers(self, facts: Mapping[str, Any], worker_facts: Sequence[Mapping[str, Any]]) -> None:
        """Start workers for the queues that no worker serves yet."""
        missing = sorted(set(facts["queues"]) - {name for one in worker_facts for name in one["queue"].split(",")})
        queues = [queue for queue in missing for _ in range(self._plan.workers)]
        added = [SupervisedChild(partial(self._new_worker, queue)) for queue in queues]
        self._workers += added
        await asyncio.gather(*(child.start() for child in added))

    async def reload(self) -> dict[str, Any]:
        """Replace all by processes with the code as it is now; the facts that the new server reports.

        The old ones stop when the new ones are loaded: the port is closed for a moment only, and no task is lost. Old
        workers claim nothing more, and their tasks get the grace.

        Raises:
            CommandFailed: the new code cannot be loaded; the old processes go on.
        """
        server = SupervisedChild(partial(self._new_server, takes_over=True))
        workers = [SupervisedChild(self._new_worker) for _ in range(self._plan.workers)]
        worker_starts = [asyncio.create_task(child.start()) for child in workers]

        async def replace_old() -> None:
            await asyncio.gather(*worker_starts)
            old_server, old_workers = self._server, self._workers
            self._server, self._workers = server, workers
            for worker in old_workers:
                self._let_go(worker)
            await old_server.stop(_STOP_TIMEOUT)

        try:
            facts = await server.start(replace_old)
            await self._redis.keep(facts["embedded"])
            await self._add_missing_workers(facts, [start.result() for start in worker_starts])
        except BaseException:
            if self._server is not server:
                for starting in worker_starts:
                    starting.cancel()
                await asyncio.gather(*(child.stop(_STOP_TIMEOUT) for child in (server, *workers)))
            raise
        return facts

    def _let_go(self, worker: SupervisedChild) -> None:
        leaving = asyncio.create_task(worker.stop(self._plan.grace + _STOP_TIMEOUT))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def stop(self, *, release_tasks: bool = False) -> None:
        """Stop all. Workers finish the tasks that they can within their grace; `release_tasks`: they release them."""
        stops = [child.stop(self._plan.grace + _STOP_TIMEOUT) for child in (self._server, *self._workers)]
        stopping = asyncio.gather(*stops, *self._leaving)
        if release_tasks:
            # Two signals in the same moment count as one.
            await asyncio.sleep(_BETWEEN_SIGNALS)
            self.release_tasks()
        await stopping

    def release_tasks(self) -> None:
        """Make workers that are stopping release their tasks."""
        for worker in self._workers:
            worker.process.terminate()

    async def active_tasks(self) -> int:
        """How many tasks the workers still run while all are stopping. Ask once: each worker reports it once."""
        return sum([await worker.process.active_tasks() for worker in self._workers])

    async def detach_workers(self, log_file: Path) -> None:
        """Stop the server and let the workers outlive this process: they end when they are idle."""
        for worker in self._workers:
            worker.stop_restarting()
            worker.process.detach(log_file)
        await self._server.stop(_STOP_TIMEOUT)

    def _new_server(self, *, takes_over: bool = False) -> Child:
        port = () if self._port is None else ("--port", str(self._port))
        plan = self._plan
        more = (*port, "--takes-over") if takes_over else port
        return self._new_child("serve", [plan.file, *plan.server, *plan.both, *more])

    def _new_worker(self, queue: str | None = None) -> Child:
        chosen = () if queue is None else ("--queue", queue)
        plan = self._plan
        return self._new_child("worker", [plan.file, *plan.worker, *plan.both, *chosen])

    def _new_child(self, role: str, words: Sequence[str]) -> Child:
        return Child(role, words, output=self._plan.output, prepared=self._prepared.pop() if self._prepared else None)
