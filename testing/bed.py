"""The whole engine in the test's own process: a real Redis, one server on a free port, one worker.

Everything is as in production except the number of processes: only Redis is a process of its own.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import uvicorn

from taskmill.adapters.foreign_servers import collect_tools, host_of, is_foreign_server
from taskmill.engine.record import TaskView
from taskmill.engine.status import TERMINAL, Status
from taskmill.server.protocol.status_text import status_text
from taskmill.server.settings import ServerSettings
from taskmill.server.tool_host import ToolHost
from taskmill.store.embedded.server import embedded_redis
from taskmill.store.tasks.tasks import OPERATOR, TaskStore
from taskmill.testing.answers import Answers
from taskmill.testing.client_types import ClientKind, VirtualClient
from taskmill.testing.clients import client_of
from taskmill.testing.timeline import StatusUpdate, timeline_of
from taskmill.workers.in_process import running_worker
from taskmill.workers.loop import WorkerLoop
from taskmill.workers.settings import WorkerSettings

__all__ = ["TestBed"]

_START = 20.0
_LOOK_EVERY = 0.01


class TestBed:
    """`async with TestBed(mcp) as bed`: serve the tools of a server, and run their tasks.

    `server`: a `TaskServer`, or a FastMCP server.
    `redis_url`: a Redis of yours instead of one that starts and ends with the bed. `handoff_after`: seconds until a
    client of kind `handed-off` is handed off. Other settings go to server and worker: `lease=1`, `concurrency=1`, ...
    """

    __test__ = False  # pytest takes every class of this name for tests

    def __init__(
        self, server: Any, *, redis_url: str | None = None, handoff_after: float = 0.2, **settings: Any
    ) -> None:
        self._server: ToolHost = host_of(server) if is_foreign_server(server) else server
        self._redis_url = redis_url
        self._given = {"grace": 0.0, "schedules": False, **settings}
        self._handoff_after = handoff_after
        self._stack = AsyncExitStack()
        self._worker: AbstractAsyncContextManager[WorkerLoop] | None = None
        self._settings: WorkerSettings | None = None
        self.url = ""
        """The URL of the MCP endpoint."""

    async def __aenter__(self) -> Self:
        await collect_tools(self._server)
        async with AsyncExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taskmill-")))
            if self._redis_url is None:
                self._redis_url = await stack.enter_async_context(embedded_redis(home / "redis"))
            # Settings of shards in the environment must not reach a test.
            redis: dict[str, Any] = {"redis_url": self._redis_url, "shards": {}, "queue_shards": {}, "shard": None}
            common = {**redis, "home": home, "prefix": home.name, "app": "", **self._given}
            self._settings = WorkerSettings(**common)
            authored = self._server.store_settings
            own = {**common, "handoff_after": self._handoff_after}
            self._server.store_settings = ServerSettings(**own)
            stack.callback(setattr, self._server, "store_settings", authored)
            self.url = await stack.enter_async_context(_serving(self._server)) + "/mcp"
            await self.start_worker()
            stack.push_async_callback(self.stop_worker)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    @property
    def store(self) -> TaskStore:
        """The store, for what clients cannot see."""
        return self._server.store

    def client(
        self, kind: ClientKind | str = ClientKind.TASKS_2026, *, answers: Answers = (), token: str | None = None
    ) -> AbstractAsyncContextManager[VirtualClient]:
        """A client of a class: `async with bed.client("held") as client`.

        `answers`: to the tool's questions; `token`: the bearer token it sends.
        """
        return client_of(ClientKind(kind), self.url, answers=answers, token=token)

    async def task(self, task_id: str) -> TaskView:
        """A task as it is now, of any owner.

        Raises:
            TaskNotFound: unknown or expired.
        """
        return await self.store.read(task_id, OPERATOR)

    async def until(self, task_id: str, *statuses: Status | str, within: float = 10) -> TaskView:
        """Wait until the task is in one of the states; any terminal one if none is named.

        Raises:
            TimeoutError: it was not, `within` this many seconds.
            AssertionError: it has ended in another state.
        """
        wanted = {Status(status) for status in statuses} or TERMINAL
        view = await self.task(task_id)
        with anyio.move_on_after(within):
            while view.record.status not in wanted and not view.record.is_terminal:
                await anyio.sleep(_LOOK_EVERY)
                view = await self.task(task_id)
        if view.record.status in wanted:
            return view
        state = f"{view.record.tool} is {view.record.status} ({status_text(view)}), not {' or '.join(sorted(wanted))}"
        if view.record.is_terminal:
            raise AssertionError(state)
        raise TimeoutError(f"{state}, after {within:g} s")

    async def timeline(self, task_id: str) -> list[StatusUpdate]:
        """What a client that watches would have seen of a task so far: (state, message), each once as it changed."""
        return timeline_of(await self.store.history(task_id), await self.task(task_id))

    async def task_ids(self) -> Sequence[str]:
        """The ids of all tasks, newest first."""
        page = await self.store.page(OPERATOR, limit=100)
        return [view.record.id for view in page.views]

    async def start_worker(self) -> None:
        """Start the worker again; a bed begins with one."""
        assert self._settings is not None
        assert self._worker is None, "the worker is already running"
        self._worker = running_worker(self._server, self._settings)
        await self._worker.__aenter__()

    async def stop_worker(self) -> None:
        """Drain the worker: its active tasks go back to the queue, and new calls wait."""
        if self._worker is not None:
            worker, self._worker = self._worker, None
            await worker.__aexit__(None, None, None)


@asynccontextmanager
async def _serving(server: ToolHost) -> AsyncIterator[str]:
    config = uvicorn.Config(
        server.http_app(), port=0, log_level="error", lifespan="on", timeout_graceful_shutdown=1, log_config=None
    )
    replica = uvicorn.Server(config)
    running = asyncio.create_task(replica.serve(), name="taskmill.testing.server")
    try:
        with anyio.fail_after(_START):
            while not replica.started:
                if running.done():
                    running.result()
                    raise AssertionError("the server ended before it had started; its log says why")
                await anyio.sleep(_LOOK_EVERY)
        yield f"http://127.0.0.1:{replica.servers[0].sockets[0].getsockname()[1]}"
    finally:
        replica.should_exit = True
        await asyncio.wait([running])
