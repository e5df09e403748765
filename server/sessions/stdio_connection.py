"""One connection over two streams, as over stdio: which era it is in, and which of its requests timed out.

The SDK fixes the era by the first request. A host that opens with the probe `server/discover`, does not wait for its
answer and then sends `initialize`, as Claude Code and Copilot CLI do while a server starts slowly, would be refused
for good. Here a probe fixes nothing: the first other request does.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_dual_era_loop
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, JSONRPCRequest

from taskmill.server.protocol.cancellation import is_timeout, timed_out_requests

__all__ = ["serve_streams"]

_PROBE = "server/discover"
_Item = SessionMessage | Exception


async def serve_streams(server: Server[Any], reading: Any, writing: Any) -> None:
    """Serve one client until its side ends. `reading`, `writing`: the streams of the SDK's `stdio_server`."""
    timed_out_requests.set(set())
    options = server.create_initialization_options()
    async with server.lifespan(server) as state, reading, writing, anyio.create_task_group() as group:

        def serve() -> MemoryObjectSendStream[_Item]:
            """Begin a connection of the SDK's; returns where its messages go."""
            incoming: MemoryObjectReceiveStream[_Item]
            sending, incoming = anyio.create_memory_object_stream[_Item]()
            # A clone: each connection closes its own in the end.
            loop = partial(serve_dual_era_loop, lifespan_state=state, init_options=options)
            group.start_soon(loop, server, incoming, writing.clone())
            return sending

        await _pass_on(reading, serve)


async def _pass_on(reading: Any, serve: Callable[[], MemoryObjectSendStream[_Item]]) -> None:
    """Pass messages on to the connection that was begun last."""
    connections = [serve()]
    methods: set[str] = set()
    try:
        async for item in reading:
            message = item.message if isinstance(item, SessionMessage) else None
            if isinstance(message, JSONRPCRequest):
                # The first connection has the era of the probe. It stays, so that the probe is answered.
                if message.method == "initialize" and methods == {_PROBE}:
                    connections.append(serve())
                methods.add(message.method)
            elif isinstance(message, JSONRPCNotification):
                _note_timeout(message)
            with suppress(anyio.BrokenResourceError):
                await connections[-1].send(item)
    finally:
        for connection in connections:
            connection.close()


def _note_timeout(message: JSONRPCNotification) -> None:
    """Keep that a request timed out, before the SDK ends it."""
    if message.method == "notifications/cancelled" and is_timeout(message.params):
        request_id = (message.params or {}).get("requestId")
        if isinstance(request_id, str | int):
            timed_out_requests.get().add(request_id)
