"""Fast paths around the SDK for the most frequent requests of 2026-07-28: `tasks/get`, `tasks/update`, `tasks/cancel`,
and `tools/call` of a task tool.

They answer a request only if they understand all of it and it succeeds; the SDK answers every other one and all errors.
On a server with tokens they stand behind the checks of tokens and scopes; without tokens `FastPathRouter` puts them
before nearly everything. They use the check of Host, Origin and content type of all requests.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary
from mcp.server.runner import modern_error_data
from mcp.server.transport_security import DEFAULT_MAX_REQUEST_BODY_SIZE, TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import ERROR_CODE_HTTP_STATUS, x_mcp_header_map
from mcp_types import SERVER_INFO_META_KEY, CallToolRequestParams
from opentelemetry import trace
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskmill.engine.errors import TaskmillError
from taskmill.engine.record import TaskView
from taskmill.server.audit.calls import AuditedCalls
from taskmill.server.auth.principal import owner
from taskmill.server.fast_path.clients import KnownClients
from taskmill.server.fast_path.requests import FastRequest, Headers, HostCheck, read_headers, read_request
from taskmill.server.handlers.caller_errors import CallerErrors
from taskmill.server.handlers.log_levels import LogLevels
from taskmill.server.handlers.tasks_2025 import Tasks2025
from taskmill.server.handlers.tool_list import ToolListing
from taskmill.server.http.middleware import path_of
from taskmill.server.http.scope_challenge import may_lack_scope
from taskmill.server.protocol.sdk_private import OpenTelemetryMiddleware
from taskmill.server.protocol.shapes_2026 import create_result, detailed_task
from taskmill.server.tool_host import TaskTools
from taskmill.server.tools.answers import take_answers
from taskmill.server.tools.registry import TaskTool, ToolRegistry
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.server.tools.submission import Submission
from taskmill.store.formats.json_text import write_ascii_json

__all__ = ["FastPath", "FastPathRouter"]

_JSON = (b"content-type", b"application/json")
_WITHOUT_EFFECT = (
    AuditedCalls,
    CallerErrors,
    LogLevels,
    OpenTelemetryMiddleware,
    ToolListing,
    Tasks2025,
    RequestStateBoundary,
)
"""Server middleware that does not change these requests; `OpenTelemetryMiddleware` only makes spans."""
_Answer = tuple[int, dict[str, Any]]
"""HTTP status, and `result` or `error` of the JSON-RPC response."""


class FastPath:
    """ASGI wrapper of the MCP endpoint."""

    def __init__(
        self,
        app: ASGIApp,
        runtime: ServerRuntime,
        tools: ToolRegistry,
        hosts: TransportSecuritySettings,
        server: Server[Any],
        submission: Submission,
        *,
        without_effect: tuple[type, ...] = (),
        is_open: Callable[[], bool] = lambda: True,
    ) -> None:
        """While the author's own middleware is around the methods of `server`, no request takes a fast path.

        `without_effect`: classes of server middleware that change nothing either while `is_open` is true.
        """
        self._app = app
        self._runtime = runtime
        self._tools = tools
        self._hosts = HostCheck(hosts)
        self._server = server
        self._classes = (*_WITHOUT_EFFECT, *without_effect)
        self._is_open = is_open
        self._without_effect: list[Any] = []
        self._stamp: dict[str, Any] | None = None
        self._submission = submission
        self._plain: dict[str, tuple[TaskTool, bool]] = {}
        self._clients = KnownClients()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on with its body."""
        headers = self._headers(scope)
        if headers is None or not self._hosts.passes(scope, headers):
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

        async def receive_again() -> Message:
            return first.pop() if first else await receive()

        await self._app(scope, receive_again, send)

    def _headers(self, scope: Scope) -> Headers | None:
        """The headers of a request that may take a fast path; None = it takes none."""
        if scope["method"] != "POST" or not self._has_no_middleware() or _is_traced():
            return None
        headers = read_headers(scope)
        return None if headers is None or headers["mcp-method"] in self._server.cache_hints else headers

    def _has_no_middleware(self) -> bool:
        """Whether no middleware of the author's is around the methods of the server."""
        middleware = self._server.middleware
        if middleware != self._without_effect and all(isinstance(one, self._classes) for one in middleware):
            self._without_effect = list(middleware)
        return middleware == self._without_effect and self._is_open()

    async def _reply(self, message: Message, headers: Headers, scope: Scope) -> tuple[int, bytes] | None:
        """HTTP status and body."""
        if message["type"] != "http.request" or message.get("more_body"):
            return None
        body = message["body"]
        request = read_request(body) if len(body) <= DEFAULT_MAX_REQUEST_BODY_SIZE else None
        if request is None or request.method != headers["mcp-method"]:
            return None
        # Where the name is required, the SDK answers a request without it; an empty name contradicts the body.
        default = None if request.method == "tools/call" else request.routing_name
        if headers.get("mcp-name", default) != request.routing_name:
            return None
        try:
            answer = await (self._call(request, scope) if request.method == "tools/call" else self._task(request))
        except (TaskmillError, MCPError):
            return None
        if answer is None:
            return None
        status, outcome = answer
        return status, write_ascii_json({"jsonrpc": "2.0", "id": request.id, **outcome})

    async def _task(self, request: FastRequest) -> _Answer:
        """Serve a request about a task. After a failure the SDK can repeat it: nothing changed, or it is idempotent."""
        store, task_id, who = self._runtime.store, request.params["taskId"], owner()
        if request.method == "tasks/get":
            return self._result({**detailed_task(await store.read(task_id, who)), "resultType": "complete"})
        if request.method == "tasks/update":
            await take_answers(store, task_id, who, request.params["inputResponses"])
        else:
            await store.cancel(task_id, who, reason="client")
        return self._result({"resultType": "complete"})

    async def _call(self, call: FastRequest, scope: Scope) -> _Answer | None:
        """Create the task of a call; None for a call that makes no task: the SDK finds the same reason."""
        entry = self._tools.find(call.params["name"])
        if entry is None or not self._is_plain(entry):
            return None
        params = CallToolRequestParams.model_validate(call.params, by_name=False)
        client = self._clients.of(call)
        ctx = client.request(call, scope, self._runtime.lifespan_state)
        try:
            submitted = await self._submission.submit(entry, params, ctx, client=client.stored)
        except MCPError as exc:
            # The store may have kept the task although its reply was lost: to repeat the call could make a second one.
            error = modern_error_data(exc).model_dump(by_alias=True, mode="json", exclude_none=True)
            return ERROR_CODE_HTTP_STATUS.get(error["code"], 200), {"error": error}
        return self._result(create_result(submitted)) if isinstance(submitted, TaskView) else None

    def _is_plain(self, entry: TaskTool) -> bool:
        """Whether a call of the tool asks the client nothing first, and has no arguments in headers."""
        known, is_plain = self._plain.get(entry.tool.name, (None, False))
        if known is not entry:
            is_plain = not entry.tool.resolved_params and not x_mcp_header_map(entry.tool.parameters)
            self._plain[entry.tool.name] = entry, is_plain
        return is_plain

    def _result(self, result: dict[str, Any]) -> _Answer:
        if self._stamp is None:
            self._stamp = {SERVER_INFO_META_KEY: self._server.server_info_stamp}
        meta = {**result["_meta"], **self._stamp} if "_meta" in result else self._stamp
        return 200, {"result": {**result, "_meta": meta}}


def _is_traced() -> bool:
    """Whether traces are collected: the SDK makes a span of every request."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


class FastPathRouter:
    """ASGI middleware, inside all that an author adds: takes requests to the MCP endpoint to the fast paths first.

    For a server without tokens. Routes, error handling and the check of scopes have nothing to do for a request that a
    fast path answers.
    """

    def __init__(
        self,
        app: ASGIApp,
        fast_path: Callable[[ASGIApp], ASGIApp],
        tools: TaskTools,
        *,
        path: str,
        has_operator: bool,
    ) -> None:
        """`fast_path`: puts the fast paths before an application; `path`: the endpoint's."""
        self._app = app
        self._fast = fast_path(app)
        self._tools = tools
        self._path = path
        self._has_operator = has_operator

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on."""
        return (self._fast if self._is_for_endpoint(scope) else self._app)(scope, receive, send)

    def _is_for_endpoint(self, scope: Scope) -> bool:
        if scope["type"] != "http" or path_of(scope) != self._path:
            return False
        # An author's own middleware may have set the user. And only the operator's check may see an operator's token.
        return not may_lack_scope(scope, self._tools) and not (self._has_operator and _has_token(scope))


def _has_token(scope: Scope) -> bool:
    return any(name == b"authorization" for name, _ in scope["headers"])
