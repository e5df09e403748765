"""A client of the revisions before 2026, made of HTTP and JSON: a session, calls, streams that are cut and resumed."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2

Json = dict[str, Any]
REVISION = "2025-11-25"
CAPABILITIES = {"elicitation": {}, "sampling": {}, "roots": {}}


class Frame:
    """One server-sent event."""

    def __init__(self, event_id: str | None, retry: int | None, data: str) -> None:
        self.id = event_id
        self.retry = retry
        self.data = data

    @property
    def message(self) -> Json:
        """The JSON-RPC message."""
        message: Json = json.loads(self.data)
        return message


class Session:
    """One client's session; `at` is the same session at another replica."""

    def __init__(self, http: httpx2.AsyncClient, url: str, session_id: str | None, revision: str) -> None:
        self.http = http
        self.url = url
        self.id = session_id
        self.revision = revision
        self._number = 1

    def at(self, url: str) -> "Session":
        """The same session at another replica."""
        other = Session(self.http, url, self.id, self.revision)
        other._number = 1000
        return other

    def headers(self, **more: str) -> dict[str, str]:
        """The headers of every request."""
        own = {} if self.id is None else {"mcp-session-id": self.id}
        accept = {"accept": "application/json, text/event-stream", "mcp-protocol-version": self.revision}
        return {**own, **accept, **{name.replace("_", "-"): value for name, value in more.items()}}

    async def post(self, body: Any, **headers: str) -> httpx2.Response:
        """POST one message, whole."""
        return await self.http.post(self.url, json=body, headers=self.headers(**headers))

    async def notify(self, method: str, **params: Any) -> httpx2.Response:
        """POST a notification."""
        return await self.post({"jsonrpc": "2.0", "method": method, "params": params})

    async def reply(self, request: Json, result: Json) -> httpx2.Response:
        """POST the response to a request of the server."""
        return await self.post({"jsonrpc": "2.0", "id": request["id"], "result": result})

    def request(self, method: str, **params: Any) -> Json:
        """A request with the next id."""
        self._number += 1
        return {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}

    async def ask(self, method: str, **params: Any) -> Json:
        """The response to a request, from a body or a stream."""
        with anyio.fail_after(30):
            response = await self.post(self.request(method, **params))
            if response.headers["content-type"].startswith("application/json"):
                reply: Json = response.json()
                return reply
            return [frame.message async for frame in _frames(_lines(response.text)) if frame.data][-1]

    async def call(self, tool: str, **arguments: Any) -> Json:
        """tools/call without a task."""
        return await self.ask("tools/call", name=tool, arguments=arguments)

    async def task(self, tool: str, *, ttl: Any = None, token: Any = None, **arguments: Any) -> Json:
        """tools/call as a task; the task."""
        more = {} if token is None else {"_meta": {"progressToken": token}}
        wanted = {} if ttl is None else {"ttl": ttl}
        reply = await self.ask("tools/call", name=tool, arguments=arguments, task=wanted, **more)
        assert "result" in reply, reply
        task: Json = reply["result"]["task"]
        return task

    async def until(self, task_id: str, *statuses: str) -> Json:
        """Poll until the task is in one of the states; the task."""
        with anyio.fail_after(30):
            while True:
                task: Json = (await self.ask("tasks/get", taskId=task_id))["result"]
                if task["status"] in statuses:
                    return task
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def streaming(self, method: str, **params: Any) -> AsyncIterator[AsyncIterator[Frame]]:
        """A request whose response is read event by event; leaving the block disconnects."""
        body = json.dumps(self.request(method, **params))
        headers = self.headers(content_type="application/json")
        async with self.http.stream("POST", self.url, content=body, headers=headers) as response:
            assert response.headers["content-type"].startswith("text/event-stream"), await response.aread()
            yield _frames(response.aiter_lines())

    @asynccontextmanager
    async def listening(self, last_event_id: str | None = None) -> AsyncIterator[AsyncIterator[Frame]]:
        """GET: the session's own stream, or the rest of a call's."""
        cursor = {} if last_event_id is None else {"last_event_id": last_event_id}
        async with self.http.stream("GET", self.url, headers=self.headers(**cursor)) as response:
            assert response.status_code == 200, await response.aread()
            yield _frames(response.aiter_lines())


async def next_message(frames: AsyncIterator[Frame]) -> Json:
    """The next message; events without data are skipped."""
    return (await next_frame(frames)).message


async def next_frame(frames: AsyncIterator[Frame]) -> Frame:
    """The next event with a message."""
    with anyio.fail_after(30):
        async for frame in frames:
            if frame.data:
                return frame
    raise AssertionError("the stream ended")


async def rest(frames: AsyncIterator[Frame]) -> list[Frame]:
    """All events with a message until the stream ends."""
    with anyio.fail_after(30):
        return [frame async for frame in frames if frame.data]


async def open_session(
    http: httpx2.AsyncClient,
    url: str,
    *,
    revision: str = REVISION,
    capabilities: Json | None = None,
    name: str = "tests",
) -> Session:
    """Initialize."""
    session = Session(http, url, None, revision)
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": revision,
            "capabilities": CAPABILITIES if capabilities is None else capabilities,
            "clientInfo": {"name": name, "version": "1"},
        },
    }
    response = await session.post(body)
    assert response.status_code == 200, response.text
    session.id = response.headers["mcp-session-id"]
    assert (await session.notify("notifications/initialized")).status_code == 202
    return session


async def _lines(text: str) -> AsyncIterator[str]:
    for line in text.splitlines():
        yield line


async def _frames(lines: AsyncIterator[str]) -> AsyncIterator[Frame]:
    event_id, retry, data = None, None, None
    async for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data is not None:
                yield Frame(event_id, retry, data)
            event_id, retry, data = None, None, None
        elif name == "id":
            event_id = value
        elif name == "retry":
            retry = int(value)
        elif name == "data":
            data = value if data is None else data + "\n" + value
