"""Ways past the SDK for the commonest requests there are, of 2026-07-28 and as clients write them: `tasks/get`,
`tasks/update`, `tasks/cancel`, and `tools/call` of a task tool.

They answer what they fully understand and what goes well; every other request, and every error, is the SDK's to answer.
They stand behind the checks of tokens and scopes, and where there are no tokens in front of nearly everything
(`fast_front.py`). They ask the SDK's own check of Host, Origin and content type.
"""

import json
from dataclasses import replace
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary
from mcp.server.runner import modern_error_data
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import ERROR_CODE_HTTP_STATUS, x_mcp_header_map
from mcp_types import SERVER_INFO_META_KEY, CallToolRequestParams
from opentelemetry import trace
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskmill.engine.errors import TaskmillError
from taskmill.engine.record import TaskView
from taskmill.server.auth.principal import owner
from taskmill.server.context.detached_request import detached_request
from taskmill.server.fast_path.requests import FastRequest, Headers, HostCheck, read_headers, read_request
from taskmill.server.handlers.caller_errors import CallerErrors
from taskmill.server.handlers.tasks_2025 import Tasks2025
from taskmill.server.handlers.tool_list import ToolListing
from taskmill.server.http.transport_security import trimmed
from taskmill.server.protocol.sdk_private import OpenTelemetryMiddleware
from taskmill.server.protocol.shapes_2026 import create_result, detailed_task
from taskmill.server.tools.answers import take_answers
from taskmill.server.tools.registry import TaskTool
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.server.tools.submission import Submission

__all__ = ["FastPath"]

_LONGEST = 64 * 1024
_JSON = (b"content-type", b"application/json")
_encode = json.JSONEncoder(separators=(",", ":")).encode
_HARMLESS = (CallerErrors, OpenTelemetryMiddleware, ToolListing, Tasks2025, RequestStateBoundary)
"""Server middleware that these requests pass unchanged; the first only makes spans."""
_Answer = tuple[int, dict[str, Any]]
"""HTTP status, and `result` or `error` of the JSON-RPC response."""


class FastPath:
    """ASGI wrapper of the MCP endpoint."""

    def __init__(
        self,
        app: ASGIApp,
        runtime: ServerRuntime,
        hosts: TransportSecuritySettings,
        server: Server[Any],
        submission: Submission,
    ) -> None:
        """While the author has put middleware around the methods of `server`, nothing is fast."""
        self._app = app
        self._runtime = runtime
        self._hosts = HostCheck(hosts)
        self._server = server
        self._harmless: list[Any] = []
        self._stamp: dict[str, Any] | None = None
        self._submission = submission
        self._plain: dict[str, tuple[TaskTool, bool]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        headers = self._headers(scope)
        if headers is None or not await self._hosts.passes(scope, headers):
            await self._app(scope, receive, send)
            return
        message = await receive()
        reply = await self._reply(message, headers, scope)
        if reply is not None:
            status, body = reply
            start = [(b"content-length", b"%d" % len(body)), _JSON]
            await send({"type": "http.response.start", "status": status, "headers": start})
            await send({"type": "http.response.body", "body": body})
            return
        first: list[Message] = [message]

        async def again() -> Message:
            return first.pop() if first else await receive()

        await self._app(scope, again, send)

    def _headers(self, scope: Scope) -> Headers | None:
        """Those of a request that may have a fast path; None = it has none."""
        if scope["method"] != "POST" or not self._is_bare() or _is_traced():
            return None
        headers = read_headers(scope)
        return None if headers is None or headers["mcp-method"] in self._server.cache_hints else headers

    def _is_bare(self) -> bool:
        """Whether the author has put nothing around the methods of the server."""
        around = self._server.middleware
        if around != self._harmless and all(isinstance(one, _HARMLESS) for one in around):
            self._harmless = list(around)
        return around == self._harmless

    async def _reply(self, message: Message, headers: Headers, scope: Scope) -> tuple[int, bytes] | None:
        """HTTP status and body."""
        if message["type"] != "http.request" or message.get("more_body") or len(message["body"]) > _LONGEST:
            return None
        asked = read_request(message["body"])
        if asked is None or asked.method != headers["mcp-method"]:
            return None
        # A missing name is the SDK's business where it must not be; an empty one contradicts the body.
        if headers.get("mcp-name", None if asked.method == "tools/call" else asked.routing_name) != asked.routing_name:
            return None
        try:
            answer = await self._call(asked, scope) if asked.method == "tools/call" else await self._task(asked)
        except (TaskmillError, MCPError):
            return None
        if answer is None:
            return None
        status, said = answer
        return status, _encode({"jsonrpc": "2.0", "id": asked.id, **said}).encode()

    async def _task(self, asked: FastRequest) -> _Answer:
        """Serve a request about a task. What fails here has changed nothing, or nothing that once more would change."""
        store, task_id, who = self._runtime.store, asked.params["taskId"], owner()
        if asked.method == "tasks/get":
            return self._result({**detailed_task(await store.read(task_id, who)), "resultType": "complete"})
        if asked.method == "tasks/update":
            await take_answers(store, task_id, who, asked.params["inputResponses"])
        else:
            await store.cancel(task_id, who, reason="client")
        return self._result({"resultType": "complete"})

    async def _call(self, asked: FastRequest, scope: Scope) -> _Answer | None:
        """Create the task of a call; None for one that makes no task, for reasons that the SDK finds as well."""
        entry = self._runtime.tools.find(asked.params["name"])
        if entry is None or not self._is_plain(entry):
            return None
        params = CallToolRequestParams.model_validate(asked.params, by_name=False)
        state = self._runtime.lifespan_state
        silent = detached_request("", state, client_info=asked.info, capabilities=asked.capabilities)
        ctx = replace(silent, request=Request(trimmed(scope)), request_id=asked.id, params=asked.params)
        try:
            submitted = await self._submission.submit(entry, params, ctx)
        except MCPError as exc:
            # The store may have kept the task although its reply was lost: once more would make a second one.
            error = modern_error_data(exc).model_dump(by_alias=True, mode="json", exclude_none=True)
            return ERROR_CODE_HTTP_STATUS.get(error["code"], 200), {"error": error}
        return self._result(create_result(submitted)) if isinstance(submitted, TaskView) else None

    def _is_plain(self, entry: TaskTool) -> bool:
        """Whether a call of the tool asks nothing back, and has no arguments in headers."""
        known, is_plain = self._plain.get(entry.tool.name, (None, False))
        if known is not entry:
            is_plain = not entry.tool.resolved_params and not x_mcp_header_map(entry.tool.parameters)
            self._plain[entry.tool.name] = entry, is_plain
        return is_plain

    def _result(self, result: dict[str, Any]) -> _Answer:
        if self._stamp is None:
            self._stamp = {SERVER_INFO_META_KEY: self._server.server_info_stamp}
        return 200, {"result": {**result, "_meta": self._stamp}}


def _is_traced() -> bool:
    """Whether somebody collects traces: the SDK makes a span of every request."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
