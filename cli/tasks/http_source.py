"""Tasks as a server's HTTP API shows them to whoever has the token."""

import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import anyio
import httpx2

from taskmill.cli.errors import Failure, Reported, Unanswered, UsageFault
from taskmill.cli.tasks.source import Json, TaskSource

__all__ = ["api_of", "over_http"]

_TRIES = 3
_PAUSE = 1.0
"""Seconds until a broken stream is asked for again."""
_SILENCE = 60.0
"""Seconds without a sign of life, of which a stream gives one every 15, after which it counts as broken."""
_LONGEST_PAGE = 200
_BUSY = 503


async def over_http(work: Callable[[TaskSource], Awaitable[int]], url: str, token: str | None) -> int:
    """Do the work at this server.

    Raises:
        UsageFault: `url` is no address.
        Unanswered: nobody is there.
        Reported: the server refused, with its words.
    """
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    timeout = httpx2.Timeout(30.0, connect=5.0)
    async with httpx2.AsyncClient(base_url=api_of(url), headers=headers, timeout=timeout) as http:
        return await work(_ApiSource(http))


def api_of(url: str) -> str:
    """The API's address, from that of a server or of its MCP endpoint.

    Raises:
        UsageFault: it is neither.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageFault(f"--url must be an address such as http://127.0.0.1:8000, not {url!r}.")
    path = parts.path.rstrip("/").removesuffix("/mcp").removesuffix("/api")
    return urlunsplit((parts.scheme, parts.netloc, f"{path}/api", "", ""))


class _ApiSource:
    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def list(self, *, statuses: Sequence[str], tool: str | None, limit: int, cursor: str | None) -> Json:
        asked = {"status": ",".join(statuses) or None, "tool": tool}
        return await self._pages("/tasks", asked, limit=limit, cursor=cursor)

    async def dead_letters(self, *, tool: str | None, limit: int, cursor: str | None) -> Json:
        return await self._pages("/dead-letters", {"tool": tool}, limit=limit, cursor=cursor)

    async def _pages(self, path: str, asked: Mapping[str, str | None], *, limit: int, cursor: str | None) -> Json:
        tasks: list[Json] = []
        while True:
            room = str(min(_LONGEST_PAGE, limit - len(tasks)))
            page = await self._ask("GET", path, {**asked, "limit": room, "cursor": cursor})
            tasks += page["tasks"]
            cursor = page["next_cursor"]
            if cursor is None or len(tasks) >= limit:
                return {"tasks": tasks, "next_cursor": cursor}

    async def show(self, task_id: str, *, history: bool = False) -> Json:
        task = await self._ask("GET", _path(task_id), {"history": "1" if history else None})
        while history and task["events"] and (last := task["events"][-1]["event"]) < task["last_event"]:
            more = await self._ask("GET", _path(task_id), {"history": "1", "after": str(last)})
            task = {**more, "events": task["events"] + more["events"]}
            if not more["events"]:
                break
        return task

    async def cancel(self, task_id: str) -> Json:
        return await self._ask("POST", _path(task_id, "/cancel"))

    async def rerun(self, task_id: str, *, key: str | None) -> Json:
        # One of our own, so that saying it again after a lost reply makes no second task.
        once = {"idempotency-key": key or secrets.token_hex(16)}
        return await self._ask("POST", _path(task_id, "/rerun"), headers=once)

    async def events(self, task_id: str, *, after: int) -> AsyncIterator[Json]:
        while True:
            try:
                async with self._http.stream(
                    "GET", _path(task_id, "/events"), headers={"last-event-id": str(after)}, timeout=_SILENCE
                ) as reply:
                    if reply.status_code == httpx2.codes.NO_CONTENT:
                        return
                    if reply.status_code != _BUSY:
                        _raise_unless_good(reply, await reply.aread() if reply.is_error else b"")
                        async for event in _events_in(reply):
                            after = event["event"]
                            yield event
            except httpx2.TransportError:
                pass
            await anyio.sleep(_PAUSE)

    async def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | None] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        """One request; repeated while nobody answers, which all of these requests bear."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        sent = {"content-type": "application/json", **(headers or {})}
        for tried in range(1, _TRIES + 1):
            try:
                reply = await self._http.request(method, path, params=given, headers=sent)
            except httpx2.TransportError as exc:
                if tried == _TRIES:
                    raise Unanswered(f"Nobody answers at {self._http.base_url}: {exc}") from exc
            else:
                if reply.status_code != _BUSY or tried == _TRIES:
                    _raise_unless_good(reply, reply.content)
                    return _object(reply)
            await anyio.sleep(_PAUSE)
        raise AssertionError("the loop ends by returning or raising")


async def _events_in(reply: httpx2.Response) -> AsyncIterator[Json]:
    """The data of each event of a stream of server-sent events; ids and names stand in the data as well."""
    async for line in reply.aiter_lines():
        if line.startswith("data:"):
            yield json.loads(line.removeprefix("data:"))


def _path(task_id: str, tail: str = "") -> str:
    return f"/tasks/{quote(task_id, safe='')}{tail}"


def _raise_unless_good(reply: httpx2.Response, body: bytes) -> None:
    if reply.is_success:
        return
    try:
        message = str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        raise Reported(Failure(f"{reply.url.host} answers {reply.status_code}: is it a Taskmill server?", 1)) from None
    if reply.status_code == _BUSY:
        raise Unanswered(message)
    raise Reported(Failure(message, 1))


def _object(reply: httpx2.Response) -> Json:
    try:
        said: Any = reply.json()
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise Reported(Failure(f"{reply.url.host} does not answer with JSON: is it a Taskmill server?", 1))
    return said
