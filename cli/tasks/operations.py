"""Queues, tools and workers of a running server, over its HTTP API. Those of a Redis: `server/api/operations.py`."""

from collections.abc import Awaitable
from typing import Protocol
from urllib.parse import quote, urlencode

from taskmill.cli.tasks.source import Json

__all__ = ["HttpOperations"]


class _Request(Protocol):
    def __call__(self, method: str, path: str, *, body: Json | None = None) -> Awaitable[Json]: ...


class HttpOperations:
    """What operators see and do, see `OperationsSource`."""

    def __init__(self, request: _Request) -> None:
        """`request`: sends one request of the API."""
        self._request = request

    async def queues(self) -> list[Json]:
        return await self._list("queues")

    async def tools(self) -> list[Json]:
        return await self._list("tools")

    async def schedules(self) -> list[Json]:
        return await self._list("schedules")

    async def workers(self) -> list[Json]:
        return await self._list("workers")

    async def pause(self, kind: str, name: str, reason: str) -> Json:
        return await self._request("POST", f"/{kind}s/{quote(name, safe='')}/pause", body={"reason": reason})

    async def resume(self, kind: str, name: str) -> Json:
        return await self._request("POST", f"/{kind}s/{quote(name, safe='')}/resume", body={})

    async def drain(self, name: str, reason: str) -> Json:
        return await self._request("POST", f"/workers/{quote(name, safe='')}/drain", body={"reason": reason})

    async def undrain(self, name: str) -> Json:
        return await self._request("POST", f"/workers/{quote(name, safe='')}/resume", body={})

    async def set_slots(self, name: str, slots: int | None, reason: str) -> Json:
        body = {"slots": slots, "reason": reason}
        return await self._request("POST", f"/workers/{quote(name, safe='')}/slots", body=body)

    async def webhooks(self, state: str, limit: int) -> list[Json]:
        return await self._list(f"webhooks?{urlencode({'state': state, 'limit': limit})}", "webhooks")

    async def retry_webhook(self, task_id: str) -> Json:
        return await self._request("POST", f"/webhooks/{quote(task_id, safe='')}/retry", body={})

    async def retry_webhooks(self) -> Json:
        return await self._request("POST", "/webhooks/retry", body={})

    async def _list(self, path: str, what: str = "") -> list[Json]:
        rows: list[Json] = (await self._request("GET", f"/{path}"))[what or path]
        return rows
