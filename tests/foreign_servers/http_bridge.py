"""Serves a command that speaks over pipes at an HTTP address, a process for each session: most servers have no HTTP
transport of their own. It is run as a program: PORT is a variable, the words are the command.
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import anyio
import anyio.abc
import uvicorn
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.server.streamable_http import StreamableHTTPServerTransport
from mcp.shared.message import SessionMessage
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send


class Bridge:
    """The sessions, and the process of each."""

    def __init__(self, words: list[str]) -> None:
        self._command = StdioServerParameters(command=words[0], args=words[1:], env=dict(os.environ))
        self._sessions: dict[str, StreamableHTTPServerTransport] = {}
        self._group: anyio.abc.TaskGroup | None = None

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Processes end with the server."""
        async with anyio.create_task_group() as self._group:
            yield
            self._group.cancel_scope.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session_id = Request(scope).headers.get("mcp-session-id")
        if session_id is None:
            session_id = uuid4().hex
            self._sessions[session_id] = StreamableHTTPServerTransport(session_id)
            assert self._group is not None
            await self._group.start(self._run, session_id)
        if session_id not in self._sessions:
            await Response("Session not found", 404)(scope, receive, send)
            return
        await self._sessions[session_id].handle_request(scope, receive, send)

    async def _run(self, session_id: str, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        try:
            async with (
                self._sessions[session_id].connect() as (of_client, to_client),
                stdio_client(self._command) as (of_server, to_server),
                anyio.create_task_group() as both,
            ):
                both.start_soon(_pass_on, of_server, to_client)
                task_status.started()
                await _pass_on(of_client, to_server)
                both.cancel_scope.cancel()
        except Exception as exc:  # one session that broke does not end the others
            print(f"session {session_id} ended: {exc!r}", file=sys.stderr)
        finally:
            del self._sessions[session_id]


async def _pass_on(source: object, target: object) -> None:
    async for message in source:  # type: ignore[attr-defined]
        if isinstance(message, SessionMessage):
            await target.send(SessionMessage(message.message))  # type: ignore[attr-defined]


if __name__ == "__main__":
    bridge = Bridge(sys.argv[1:])
    app = Starlette(routes=[Mount("/", app=bridge)], lifespan=bridge.lifespan)
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")
