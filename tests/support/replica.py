"""A server replica and a worker in the test's own event loop: real HTTP, real Redis, the real worker loop."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import httpx2
import uvicorn

from taskmill.server import TaskServer
from taskmill.server.tool_host import ToolHost
from taskmill.store.settings import StoreSettings
from taskmill.workers.in_process import running_worker
from taskmill.workers.loop import WorkerLoop
from taskmill.workers.settings import WorkerSettings

TASKS = "io.modelcontextprotocol/tasks"
REVISION = "2026-07-28"
Json = dict[str, Any]


class Rpc:
    """A 2026-07-28 client of one replica, made of HTTP and JSON; every part of a request can be overridden."""

    def __init__(self, http: httpx2.AsyncClient, url: str, capabilities: Json | None = None) -> None:
        self.http = http
        self.url = url
        self.capabilities = {"extensions": {TASKS: {}}, "elicitation": {}} if capabilities is None else capabilities

    def without_tasks(self) -> "Rpc":
        """The same client, which does not declare the extension."""
        return Rpc(self.http, self.url, {})

    async def post(
        self, method: str, params: Json, *, name: str | None = None, **headers: str | None
    ) -> httpx2.Response:
        """One request; `headers` with None are left out."""
        return await self.http.post(self.url, **self.request(method, params, name=name, **headers))

    def request(self, method: str, params: Json, *, name: str | None = None, **headers: str | None) -> Json:
        """The parts of a request, for `http.post` or `http.stream`."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": REVISION,
            "io.modelcontextprotocol/clientCapabilities": self.capabilities,
            **params.get("_meta", {}),
        }
        sent: dict[str, str | None] = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": REVISION,
            "mcp-method": method,
            "mcp-name": name,
            **{key.replace("_", "-"): value for key, value in headers.items()},
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
        return {
            "content": json.dumps(body),
            "headers": {key: value for key, value in sent.items() if value is not None},
        }

    async def ask(self, method: str, params: Json, *, name: str | None = None) -> Json:
        """The last message of the reply: a whole JSON-RPC response."""
        return messages(await self.post(method, params, name=name))[-1]

    async def call(self, tool: str, **arguments: Any) -> Json:
        """tools/call."""
        return await self.ask("tools/call", {"name": tool, "arguments": arguments}, name=tool)

    async def task(self, tool: str, **arguments: Any) -> str:
        """tools/call that must be answered with a task; its id."""
        reply = await self.call(tool, **arguments)
        assert reply["result"]["resultType"] == "task", reply
        return str(reply["result"]["taskId"])

    async def get(self, task_id: str) -> Json:
        """tasks/get."""
        return await self.ask("tasks/get", {"taskId": task_id}, name=task_id)

    async def until(self, task_id: str, *statuses: str) -> Json:
        """Poll until the task is in one of the states; the task."""
        with anyio.fail_after(30):
            while True:
                task: Json = (await self.get(task_id))["result"]
                if task["status"] in statuses:
                    return task
                await asyncio.sleep(0.01)

    async def done(self, task_id: str) -> Json:
        """Poll until the task has ended."""
        return await self.until(task_id, "completed", "failed", "cancelled")

    @asynccontextmanager
    async def listen(self, **wanted: Any) -> AsyncIterator[AsyncIterator[Json]]:
        """subscriptions/listen: the notifications as they come."""
        parts = self.request("subscriptions/listen", {"notifications": wanted})
        async with self.http.stream("POST", self.url, **parts) as response:
            yield _events(response)


async def _events(response: httpx2.Response) -> AsyncIterator[Json]:
    if response.headers["content-type"].startswith("application/json"):
        yield json.loads(await response.aread())
        return
    async for line in response.aiter_lines():
        if line.startswith("data:"):
            yield json.loads(line.removeprefix("data:"))


def messages(response: httpx2.Response) -> list[Json]:
    """The JSON-RPC messages of a reply, whichever way it came."""
    if response.headers["content-type"].startswith("application/json"):
        return [response.json()]
    return [json.loads(line[5:]) for line in response.text.splitlines() if line.startswith("data:")]


@asynccontextmanager
async def serving(app: Any, **more: Any) -> AsyncIterator[str]:
    """An ASGI application on a free port; its address, with http. `more`: how uvicorn serves it."""
    options = {"port": 0, "log_level": "error", "lifespan": "on", "timeout_graceful_shutdown": 1, **more}
    server = uvicorn.Server(uvicorn.Config(app, **options))
    running = asyncio.create_task(server.serve())
    with anyio.fail_after(30):
        while not server.started:
            assert not running.done(), "the server did not start"
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await running


def working(server: ToolHost, settings: StoreSettings, **more: Any) -> AbstractAsyncContextManager[WorkerLoop]:
    """A worker at work, that leaves without grace."""
    worker = WorkerSettings(**{**settings.model_dump(), "grace": 0.0, **more})
    return running_worker(server, worker.at_own_shard())


@asynccontextmanager
async def client_of(server: TaskServer[Any], **app: Any) -> AsyncIterator[Rpc]:
    """A replica of `server`, and a client that declares tasks."""
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(serving(server.http_app(**app)))
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30))
        yield Rpc(http, address + app.get("path", "/mcp"))
