"""The request that a tool of a FastMCP server has in a worker: its other end is the task.

It is a foreground call of revision 2025-11-25, the last one that lets a server send requests in the middle of a call.
So FastMCP's contexts, dependencies, mounts and proxies work without knowing of tasks: progress becomes the task's, and
a request to the client a question of the task. Log messages go to those who follow the task and can be sent them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.shared.transport_context import TransportContext
from mcp_types import ClientCapabilities, InitializeRequestParams

from taskmill.adapters.fastmcp.fastmcp_private import keep_session_id
from taskmill.engine.context import TaskContext
from taskmill.server.protocol.client_class import TASKS_2025
from taskmill.server.protocol.questions import check_can_ask
from taskmill.server.tools.run_outcomes import capabilities_of

__all__ = ["worker_request"]

_UNKNOWN = {"name": "unknown", "version": "0"}


@dataclass
class TaskDispatch:
    """The SDK's dispatch context of a call whose client is reached through its task."""

    task: TaskContext
    request_id: str
    client: ClientCapabilities | None
    transport: TransportContext = field(default_factory=lambda: TransportContext(kind="task", can_send_request=True))
    can_send_request: bool = True
    message_metadata: None = None
    cancel_requested: anyio.Event = field(default_factory=anyio.Event)

    async def send_raw_request(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> dict[str, Any]:
        request = {"method": method} | ({} if params is None else {"params": dict(params)})
        check_can_ask(self.client, [request])
        (answer,) = await self.task.ask([request])
        return answer

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> None:
        if method == "notifications/progress" and params is not None:
            await self.progress(params["progress"], params.get("total"), params.get("message"))
        elif method == "notifications/message" and params is not None:
            self.task.log(params["level"], params.get("data"), params.get("logger"))

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        await self.task.report_progress(progress, total, message)


def worker_request(
    tool: str, payload: Mapping[str, Any], inputs: Mapping[str, Any], task: TaskContext
) -> ServerRequestContext[Any, Any]:
    """The request of one round of a call. `inputs`: what the round answers, as `tools/call` has it."""
    kept = payload.get("fastmcp", {})
    client = payload.get("client", {})
    dispatch = TaskDispatch(task, kept.get("request_id") or task.task_id, capabilities_of(payload))
    declared = {
        "protocolVersion": TASKS_2025,
        "capabilities": client.get("capabilities") or {},
        "clientInfo": client.get("info") or _UNKNOWN,
    }
    session_id = kept.get("session_id")
    connection = Connection(
        dispatch,
        protocol_version=TASKS_2025,
        session_id=session_id,
        client_params=InitializeRequestParams.model_validate(declared, by_name=False),
    )
    connection.initialized.set()
    if session_id:
        keep_session_id(connection, session_id)
    meta: Any = {"progress_token": task.task_id}
    wire_meta = {**kept.get("meta", {}), "progressToken": task.task_id}
    params = {"name": tool, "arguments": payload["arguments"], "_meta": wire_meta, **inputs}
    return ServerRequestContext(
        session=ServerSession(dispatch, connection, request_meta=meta),
        lifespan_context={},
        protocol_version=TASKS_2025,
        method="tools/call",
        params=params,
        meta=meta,
        request_id=dispatch.request_id,
    )
