"""A request context without a client behind it: what the SDK's `Context` needs while a tool runs in a worker.

A task has no stream of its own (tasks extension, "Task Status Notifications"): notifications are dropped, and
requests to the client are refused, because they become questions of the task instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.transport_context import TransportContext
from mcp_types.version import LATEST_MODERN_VERSION

__all__ = ["detached_request"]


@dataclass
class DetachedDispatch:
    """The SDK's DispatchContext for a request that was answered long ago."""

    request_id: str
    transport: TransportContext = field(default_factory=lambda: TransportContext(kind="task", can_send_request=False))
    can_send_request: bool = False
    message_metadata: None = None
    cancel_requested: anyio.Event = field(default_factory=anyio.Event)

    async def send_raw_request(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> dict[str, Any]:
        raise NoBackChannelError(method)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> None:
        return None

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        return None


def detached_request(
    task_id: str, lifespan: Any, *, client_info: Any, capabilities: Any
) -> ServerRequestContext[Any, Any]:
    """A request context that knows who the client was and what it can do, and cannot reach it.

    The protocol version is always the latest: there, the SDK collects what it needs from the client into an
    `InputRequiredResult`, which the task turns into questions, for clients of every revision.
    """
    connection = Connection.from_envelope(LATEST_MODERN_VERSION, client_info, capabilities)
    return ServerRequestContext(
        session=ServerSession(DetachedDispatch(task_id), connection),
        lifespan_context=lifespan,
        protocol_version=LATEST_MODERN_VERSION,
        method="tools/call",
        request_id=task_id,
    )
