"""Tasks of a running server, over its HTTP API, as the owner of the token may see them."""

import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import anyio
import httpx2

from taskmill.cli.errors import CommandFailed, Failure, ServerUnreachable
from taskmill.cli.server_address import api_url
from taskmill.cli.tasks.operations import HttpOperations
from taskmill.cli.tasks.source import Json, OperationsSource, TaskSource

__all__ = ["run_over_http"]

_ATTEMPTS = 3
_RETRY_DELAY = 1.0
"""Seconds until a broken stream or request is tried again."""
_READ_TIMEOUT = 60.0
"""Seconds without data after which a stream counts as broken; it sends a heartbeat every 15."""
_MAX_PAGE = 200
_UNAVAILABLE = 503


async def run_over_http(work: Callable[[TaskSource], Awaitable[int]], url: str, token: str | None) -> int:
    """Do the work on the tasks of this server.

    Raises:
        UsageError: `url` is no address.
        ServerUnreachable: the server does not answer.
        CommandFailed: the server refused; the text is its own.
    """
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    timeout = httpx2.Timeout(30.0, connect=5.0)
    async with httpx2.AsyncClient(base_url=api_url(url), headers=headers, timeout=timeout) as http:
        return await work(_HttpSource(http))


class _HttpSource:
    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http
        self.operations: OperationsSource = HttpOperations(self._request)

    async def list(self, where: Mapping[str, str], *, limit: int, cursor: str | None) -> Json:
        return await self._pages("/tasks", where, limit=limit, cursor=cursor)

    async def dead_letters(self, where: Mapping[str, str], *, limit: int, cursor: str | None) -> Json:
        return await self._pages("/dead-letters", where, limit=limit, cursor=cursor)

    async def _pages(self, path: str, query: Mapping[str, str], *, limit: int, cursor: str | None) -> Json:
        tasks: list[Json] = []
        while True:
            page_limit = str(min(_MAX_PAGE, limit - len(tasks)))
            page = await self._request("GET", path, {**query, "limit": page_limit, "cursor": cursor})
            tasks += page["tasks"]
            cursor = page["next_cursor"]
            if cursor is None or len(tasks) >= limit:
                return {"tasks": tasks, "next_cursor": cursor}

    async def show(self, task_id: str, *, history: bool = False) -> Json:
        task = await self._request("GET", _path(task_id), {"history": "1" if history else None})
        while history and task["events"] and (last := task["events"][-1]["event"]) < task["last_event"]:
            more = await self._request("GET", _path(task_id), {"history": "1", "after": str(last)})
            task = {**more, "events": task["events"] + more["events"]}
            if not more["events"]:
                break
        return task

    async def attempts(self, task_id: str) -> Sequence[Json]:
        reply = await self._request("GET", _path(task_id, "/attempts"))
        attempts: Sequence[Json] = reply["attempts"]
        return attempts

    async def cancel(self, task_id: str) -> Json:
        return await self._request("POST", _path(task_id, "/cancel"))

    async def answer(self, task_id: str, answers: Json) -> None:
        await self._request("POST", _path(task_id, "/answers"), body={"answers": answers})

    async def count_for_bulk(self, action: str, where: Mapping[str, str], *, every: bool) -> Json:
        return await self._request("POST", "/bulk", body={"action": action, "where": dict(where), "all": every})

    async def run_bulk(self, token: str) -> Json:
        return await self._request("POST", "/bulk/run", body={"token": token})

    async def rerun(self, task_id: str, *, key: str | None, start: Mapping[str, Any]) -> Json:
        # Without a key, a fresh one: a retry after a lost reply must not make a second task.
        idempotency_header = {"idempotency-key": key or secrets.token_hex(16)}
        return await self._request("POST", _path(task_id, "/rerun"), headers=idempotency_header, body=dict(start))

    async def audit(
        self, wanted: Mapping[str, str], *, limit: int, cursor: str | None = None, after: str | None = None
    ) -> Json:
        return await self._request("GET", "/audit", {**wanted, "limit": str(limit), "cursor": cursor, "after": after})

    async def events(self, task_id: str, *, after: int) -> AsyncIterator[Json]:
        while True:
            try:
                async with self._http.stream(
                    "GET", _path(task_id, "/events"), headers={"last-event-id": str(after)}, timeout=_READ_TIMEOUT
                ) as reply:
                    if reply.status_code == httpx2.codes.NO_CONTENT:
                        return
                    if reply.status_code != _UNAVAILABLE:
                        _raise_for_error(reply, await reply.aread() if reply.is_error else b"")
                        async for event in _events_in(reply):
                            after = event["event"]
                            yield event
            except httpx2.TransportError:
                pass
            await anyio.sleep(_RETRY_DELAY)

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | None] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Json | None = None,
    ) -> Json:
        """One request, repeated while the server does not answer; all of these requests are safe to repeat."""
        params = {name: value for name, value in (query or {}).items() if value is not None}
        sent = {"content-type": "application/json", **(headers or {})}
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                reply = await self._http.request(method, path, params=params, headers=sent, json=body)
            except httpx2.TransportError as exc:
                if attempt == _ATTEMPTS:
                    raise ServerUnreachable(f"No answer from {self._http.base_url}: {exc}") from exc
            else:
                if reply.status_code != _UNAVAILABLE or attempt == _ATTEMPTS:
                    _raise_for_error(reply, reply.content)
                    return _object(reply)
            await anyio.sleep(_RETRY_DELAY)
        raise AssertionError("the loop ends by returning or raising")


async def _events_in(reply: httpx2.Response) -> AsyncIterator[Json]:
    """The data of each server-sent event; ids and names are in the data, too."""
    async for line in reply.aiter_lines():
        if line.startswith("data:"):
            yield json.loads(line.removeprefix("data:"))


def _path(task_id: str, tail: str = "") -> str:
    return f"/tasks/{quote(task_id, safe='')}{tail}"


def _raise_for_error(reply: httpx2.Response, body: bytes) -> None:
    if reply.is_success:
        return
    try:
        message = str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        raise CommandFailed(
            Failure(f"{reply.url.host} answers {reply.status_code}: is it a Taskmill server?", 1)
        ) from None
    if reply.status_code == _UNAVAILABLE:
        raise ServerUnreachable(message)
    raise CommandFailed(Failure(message, 1))


def _object(reply: httpx2.Response) -> Json:
    try:
        body: Any = reply.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise CommandFailed(Failure(f"{reply.url.host} does not answer with JSON: is it a Taskmill server?", 1))
    return body
