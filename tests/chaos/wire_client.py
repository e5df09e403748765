"""Speaks MCP of both revisions to whichever replica answers, from the specifications. What breaks off is `Lost`."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx2

__all__ = ["Json", "Lost", "Refused", "Wire"]

Json = dict[str, Any]
TASKS = "io.modelcontextprotocol/tasks"
_NAMED = {
    "tools/call": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
_TIMEOUT = 60.0
_INTERNAL_ERROR = -32603


class Lost(Exception):
    """No answer came: whether the request was carried out is not known. Also a server's word that it cannot say now."""


class Refused(Exception):
    """An answer that says no."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.code = code


class Wire:
    """One client program. `session`: of 2025-11-25, None = it speaks 2026-07-28."""

    def __init__(self, http: httpx2.AsyncClient, urls: list[str], principal: str, chance: random.Random) -> None:
        self._http = http
        self._urls = urls
        self.principal = principal
        self._chance = chance
        self.session: str | None = None
        self._ids = 0

    async def ask(self, method: str, params: Json, *, tasks: bool = True) -> Json:
        """The result of a request. `tasks`: declare the extension (2026).

        Raises:
            Lost, Refused.
        """
        body, headers = self._message(method, params, tasks)
        cursor: str | None = None
        try:
            async with self._stream("POST", content=json.dumps(body), headers=headers) as response:
                async for event_id, message in _messages(response):
                    cursor = event_id or cursor
                    if message.get("id") == body["id"] and "method" not in message:
                        return _result(message)
        except (httpx2.HTTPError, ValueError) as error:
            if cursor is None or self.session is None:
                raise Lost(str(error)) from error
        if cursor is None or self.session is None:
            raise Lost("the stream ended without an answer")
        return await self._resume(cursor, body["id"])

    async def open(self) -> None:
        """Open a session of 2025-11-25 at one replica.

        Raises:
            Lost: none answers.
        """
        about = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "chaos", "version": "1"}}
        body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": about}
        try:
            async with self._stream("POST", content=json.dumps(body), headers=self._plain_headers()) as response:
                session = response.headers.get("mcp-session-id")
                await response.aread()
            if session is None:
                raise Lost("no session")
            self.session = session
            told = {"jsonrpc": "2.0", "method": "notifications/initialized"}
            async with self._stream("POST", content=json.dumps(told), headers=self._plain_headers()) as response:
                await response.aread()
        except (httpx2.HTTPError, ValueError) as error:
            raise Lost(str(error)) from error

    async def close(self) -> None:
        """End the session, if there is one and a replica hears of it: the server keeps only so many of a caller."""
        if self.session is not None:
            with suppress(httpx2.HTTPError):
                async with self._stream("DELETE", headers=self._plain_headers()) as response:
                    await response.aread()
        self.session = None

    async def _resume(self, cursor: str, request_id: int) -> Json:
        """The rest of a call's stream, from any replica, as often as it breaks off."""
        deadline = asyncio.get_running_loop().time() + _TIMEOUT
        while asyncio.get_running_loop().time() < deadline:
            headers = {**self._plain_headers(), "last-event-id": cursor}
            try:
                async with self._stream("GET", headers=headers) as response:
                    async for event_id, message in _messages(response):
                        cursor = event_id or cursor
                        if message.get("id") == request_id and "method" not in message:
                            return _result(message)
            except (httpx2.HTTPError, ValueError):
                pass
            await asyncio.sleep(0.1)
        raise Lost("the stream could not be resumed")

    def _stream(self, verb: str, **more: Any) -> Any:
        return self._http.stream(verb, self._chance.choice(self._urls), **more)

    def _message(self, method: str, params: Json, tasks: bool) -> tuple[Json, Json]:
        self._ids += 1
        body: Json = {"jsonrpc": "2.0", "id": self._ids, "method": method, "params": params}
        if self.session is not None:
            return body, self._plain_headers()
        extensions = {"extensions": {TASKS: {}}} if tasks else {}
        body["params"] = {
            **params,
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "chaos", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, **extensions},
            },
        }
        headers = {**self._plain_headers(), "mcp-protocol-version": "2026-07-28", "mcp-method": method}
        return body, {**headers, "mcp-name": params[_NAMED[method]]}

    def _plain_headers(self) -> Json:
        session = {"mcp-session-id": self.session, "mcp-protocol-version": "2025-11-25"} if self.session else {}
        return {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "authorization": f"Bearer issuer/chaos/{self.principal}",
            **session,
        }


def _result(message: Json) -> Json:
    if "error" in message:
        error = message["error"]
        # An error of the server's own is asked about again, and judged by its log.
        if (error.get("data") or {}).get("retryable") or error["code"] == _INTERNAL_ERROR:
            raise Lost(error["message"])
        raise Refused(error["code"], error["message"])
    result: Json = message["result"]
    return result


async def _messages(response: httpx2.Response) -> AsyncIterator[tuple[str | None, Json]]:
    """The messages of a response and the event ids they came with; an id without a message gives an empty one."""
    if response.status_code >= 500 or response.status_code == 204:
        raise ValueError(f"HTTP {response.status_code}")
    if response.headers.get("content-type", "").startswith("application/json"):
        await response.aread()
        yield None, response.json()
        return
    event_id, data = None, ""
    async for line in response.aiter_lines():
        name, _, value = line.partition(":")
        if name == "id":
            event_id = value.strip()
        elif name == "data":
            data += value.strip()
        elif not line:
            if event_id or data:
                yield event_id, json.loads(data) if data else {}
            event_id, data = None, ""
