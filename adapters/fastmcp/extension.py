"""`Tasks`: the extension that makes Taskmill run the tasks of a FastMCP server, in the place of FastMCP's own.

FastMCP needs an extension with the identifier of the protocol's tasks, and does not ask whose. This one only puts parts
together.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from typing import Any

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError, ValidationError
from fastmcp.server.context import Context
from fastmcp.server.extensions import MethodBinding, ServerExtension
from fastmcp.server.http import StarletteWithLifespan
from fastmcp.tools.base import InputRequiredToolResult, ToolResult
from fastmcp.utilities.tasks import TASKS_EXTENSION_ID
from fastmcp.utilities.tasks import TaskConfig as FastMCPTaskConfig
from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.server.mcpserver import RequestStateSecurity
from mcp.server.request_state import RequestStateBoundary
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import CallToolRequestParams, CallToolResult, InputRequiredResult, SubscriptionsListenRequestParams
from pydantic import BaseModel, model_serializer
from starlette.applications import Starlette

from taskmill.adapters.fastmcp.caller import as_operator, version_of
from taskmill.adapters.fastmcp.current_task import current_attempt, serving_tasks
from taskmill.adapters.fastmcp.dialect_2025 import FastMCPTasks2025, leave_task
from taskmill.adapters.fastmcp.fastmcp_private import (
    call_result,
    is_client_call,
    lowlevel_of,
    replace_http_app,
    sdk_request,
    seals_request_state,
)
from taskmill.adapters.fastmcp.http_app import authenticate_by_settings, with_tasks
from taskmill.adapters.fastmcp.own_worker import worker_of
from taskmill.adapters.fastmcp.provider import TaskmillProvider
from taskmill.adapters.fastmcp.tools import FastMCPTaskTool, FastMCPTools, NewTools
from taskmill.engine.errors import SettingsError
from taskmill.engine.record import TaskView
from taskmill.server.audit.calls import AuditedCalls
from taskmill.server.auth.request_state import ROUND_TTL, SharedStateCodec
from taskmill.server.handlers.caller_errors import CallerErrors
from taskmill.server.handlers.calls_without_tasks import CallsWithoutTasks
from taskmill.server.handlers.follow_up_tools import FollowUpTools
from taskmill.server.handlers.known_hosts import HostTable
from taskmill.server.handlers.log_levels import LogLevels
from taskmill.server.handlers.resources import is_own
from taskmill.server.handlers.subscriptions import TaskListenHandler
from taskmill.server.handlers.tasks_2025 import keep_ms, not_created
from taskmill.server.handlers.tasks_2026 import Tasks2026
from taskmill.server.handlers.tool_list import ToolListing
from taskmill.server.http.application import HttpApp
from taskmill.server.http.transport_security import ANY
from taskmill.server.protocol.client_class import TASKS_2025, ClientClass, client_class_of, missing_tasks, require_tasks
from taskmill.server.protocol.errors import method_not_found, wire_errors
from taskmill.server.protocol.results import HandOffBody, HandOffResult
from taskmill.server.protocol.shapes_2026 import create_result
from taskmill.server.sampling.own_model import OwnModel, SamplingHandler, SamplingSource
from taskmill.server.settings import server_settings
from taskmill.server.tools.call_keys import refuse_delay
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.server.tools.submission import Submission
from taskmill.store.embedded.server import embedded_redis
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["Tasks", "for_worker"]

for_worker: ContextVar[bool] = ContextVar("taskmill_for_worker", default=False)
"""Whether the lifespans that are entered now are those of a worker, which creates no tasks."""
Request = ServerRequestContext[Any, Any]
_LIFESPAN_MISSING = (
    "The application did not run this server's lifespan, so the task store is not open. Where it is mounted, write: "
    "app = mcp.http_app(path='/mcp'), then FastAPI(lifespan=app.lifespan), or Starlette(...) likewise, and mount app."
)


class Tasks(ServerExtension):
    """`mcp.add_extension(Tasks())`: tools with `task=` run on Taskmill's workers.

    `store`: where tasks are kept; None = read `TASKMILL_*` when the server starts.
    `also`: by name or pattern, tools that FastMCP itself cannot mark as tasks: proxied, transformed, of an OpenAPI
    document, plain functions. `{"remote_*": TaskConfig(retries=3)}`.
    `visible_claims`, `hosts`, `follow_up_tools`, `sampling`, `sampling_from`: as for `TaskServer`.
    `worker`: run a worker in the server's own process, as FastMCP's engine does; it serves all queues of the tools.
    `carry_token`: the caller's access token reaches the worker as well. Needs `TASKMILL_SEAL_KEYS`: it is stored.
    """

    identifier = TASKS_EXTENSION_ID

    def __init__(
        self,
        *,
        store: StoreSettings | None = None,
        also: Mapping[str, FastMCPTaskConfig] | None = None,
        visible_claims: Sequence[str] = (),
        hosts: Mapping[str, float | None] | None = None,
        follow_up_tools: bool = True,
        carry_token: bool = False,
        worker: bool = False,
        sampling: SamplingHandler | str | None = None,
        sampling_from: SamplingSource | None = None,
    ) -> None:
        self.store_settings = store
        self.tools = FastMCPTools(also or {}, carries_token=carry_token, own_model=OwnModel(sampling, sampling_from))
        self.runtime = ServerRuntime(visible_claims, self.tools)
        self.runtime.lifespan_missing = _LIFESPAN_MISSING
        self.own_model = self.tools.own_model
        self._carries_token = carry_token
        self._has_worker = worker
        self._hosts = HostTable(hosts)
        self._codec = SharedStateCodec()
        self._submission = Submission(self.runtime, self.tools)
        self._plain = CallsWithoutTasks(self.runtime, self._submission, self._hosts, has_follow_ups=follow_up_tools)
        self._tasks_2026 = Tasks2026(self.runtime, self._submission, self._plain)
        follow_ups = FollowUpTools(self.runtime, self._plain) if follow_up_tools else None
        self._provider = TaskmillProvider(self.runtime, follow_ups)
        self._installed_on: FastMCP[Any] | None = None
        self.plain_http_app: Callable[..., StarletteWithLifespan]
        """FastMCP's own `http_app` of the server."""
        self.services: list[Callable[[TaskStore], AbstractAsyncContextManager[None]]] = []
        """What runs beside the server while it serves."""
        self._users = 0
        self._stack = AsyncExitStack()

    def methods(self) -> Sequence[MethodBinding]:
        """The methods of revision 2026-07-28. FastMCP asks when the extension is added; then it is set up."""
        if self._installed_on is not self.server:
            self._install(self.server)
        ours = self._tasks_2026.methods()
        return [MethodBinding(one.method, one.params_type, one.handler, one.protocol_versions) for one in ours]

    def requires_live_resource(self, uri: str) -> bool:
        """Whether no cache may answer for a resource: what a task has put out belongs to its owner, and grows."""
        return is_own(uri)

    _requires_live_resource = requires_live_resource  # FastMCP's name of it

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Have the store open while the server serves; a worker has its own."""
        if for_worker.get():
            yield
            return
        async with self.serving():
            yield

    async def collect(self) -> None:
        """Learn which task tools the server has now.

        Raises:
            PolicyError: a policy does not fit its tool.
            DuplicateTool: a tool has the name of a follow-up tool.
        """
        await self.tools.collect()
        with as_operator():
            await self._provider.check_names(self.server)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Have the store open; entered once however often it is asked.

        Raises:
            SettingsError: a token would be stored in clear.
        """
        self._users += 1
        try:
            if self._users == 1:
                await self._stack.enter_async_context(self._open())
            yield
        finally:
            self._users -= 1
            if self._users == 0:
                await self._stack.aclose()

    async def intercept_tool_call(self, params: CallToolRequestParams, context: Context, call_next: Any) -> Any:
        """Make a task of a call of a task tool, inside FastMCP's middleware; pass every other call on."""
        token = serving_tasks.set(self)
        try:
            return await self._intercepted(params, context, call_next)
        except (ToolError, ValidationError) as exc:
            words = await self.tools.in_words(exc, params.name, version_of(params))
            if words == str(exc):
                raise
            made = ValidationError if isinstance(exc, ValidationError) else ToolError
            raise made(words, log_level=exc.log_level) from exc.__cause__
        finally:
            serving_tasks.reset(token)

    async def _intercepted(self, params: CallToolRequestParams, context: Context, call_next: Any) -> Any:
        request = sdk_request(context)
        if current_attempt.get() is not None:
            return await call_next()
        if request is None:
            return await self._without_client(params, call_next)
        if self._provider.has_tool(params.name):
            # Not as the result of a tool: the next answer is another one, so no middleware may keep it.
            return call_result(await call_next())
        tool = await self.tools.resolve(params.name, version_of(params))
        kind = client_class_of(request)
        if not is_client_call():
            return await self._inner(tool, call_next)
        if tool is None:
            if kind is ClientClass.TASKS_2025:
                # "Tool-Level Negotiation": not for a tool that does not support tasks.
                raise method_not_found(f"{params.name} does not run as a task. Call it without `task`.")
            with wire_errors():
                refuse_delay(params.name, _as_sent(params, request).meta)
            return await call_next()
        whole = _as_sent(params, request)
        if kind is ClientClass.TASKS_2025:
            return await self._handle_2025(tool, whole, request)
        if kind is ClientClass.TASKS_2026:
            submitted = await self._submission.submit(tool, whole, request)
            return Wire.of(create_result(submitted)) if isinstance(submitted, TaskView) else _tool_result(submitted)
        if tool.policy.mode == "required":
            _refuse_without_task(params.name, request)
        return _tool_result(await self._plain.call(tool, whole, request))

    async def _without_client(self, params: CallToolRequestParams, call_next: Any) -> Any:
        """A call of the server's own code, outside of any request."""
        tool = await self.tools.resolve(params.name, version_of(params))
        if tool is not None and tool.policy.mode == "required":
            if is_client_call():
                raise missing_tasks()
            raise _only_as_task(tool)
        return await call_next()

    async def _inner(self, tool: FastMCPTaskTool | None, call_next: Any) -> Any:
        """A call that a tool or middleware makes: it runs within that call."""
        if tool is not None and tool.policy.mode == "required":
            raise _only_as_task(tool)
        return await call_next()

    async def _handle_2025(self, tool: FastMCPTaskTool, params: CallToolRequestParams, request: Request) -> Any:
        submitted = await self._submission.submit(tool, params, request, keep_ms=keep_ms(request))
        if not isinstance(submitted, TaskView):
            raise not_created(submitted)
        return leave_task(submitted)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        settings = server_settings(self.store_settings).for_app(self.server.name)
        if self._carries_token and not settings.has_seal_keys:
            raise SettingsError(
                "Tasks(carry_token=True) stores callers' tokens, so payloads must be sealed: set TASKMILL_SEAL_KEYS."
            )
        self.own_model.check_at_start()
        async with AsyncExitStack() as stack:
            if settings.redis_url is None:
                url = await stack.enter_async_context(embedded_redis(settings.home))
                settings = settings.model_copy(update={"redis_url": url})
            store = await stack.enter_async_context(self.runtime.serving(settings))
            await store.shared_secrets()
            self._codec.use(store.known_secrets)
            await self.collect()
            await stack.enter_async_context(self.runtime.open_with({}))
            for service in self.services:
                await stack.enter_async_context(service(store))
            if self._has_worker:
                await stack.enter_async_context(worker_of(self.server, self.tools, settings))
            yield

    def _install(self, server: FastMCP[Any]) -> None:
        self._installed_on = server
        self.plain_http_app = server.http_app
        replace_http_app(server, self._http_app)
        self.tools.bind(server)
        lowlevel = lowlevel_of(server)
        boundary = next(one for one in lowlevel.middleware if isinstance(one, RequestStateBoundary))
        at = lowlevel.middleware.index(boundary)
        if not seals_request_state(server):
            # FastMCP's own key exists in one process; the next round of a call may arrive at another replica.
            policy = RequestStateSecurity(codec=self._codec, audience=server.name, ttl=ROUND_TTL)
            lowlevel.middleware[at] = RequestStateBoundary(policy, default_audience=server.name)
        lowlevel.middleware[at:at] = [
            AuditedCalls(self.tools.find),
            LogLevels(self.runtime),
            ToolListing(self.runtime, self._hosts),
            NewTools(self.tools),
            FastMCPTasks2025(self.runtime, self._submission, self._plain),
        ]
        lowlevel.middleware.insert(0, CallerErrors(None))
        listening = TaskListenHandler(self.runtime.changes, self.runtime)
        lowlevel.add_request_handler("subscriptions/listen", SubscriptionsListenRequestParams, listening)
        server.add_provider(self._provider)

    def _http_app(self, make: Callable[..., StarletteWithLifespan], *args: Any, **options: Any) -> Starlette:
        """FastMCP's application with Taskmill's parts, for those who start the server themselves.

        Host and Origin are checked by FastMCP, as the author has set it.
        """
        settings = server_settings(self.store_settings)
        authenticate_by_settings(self.server, settings)
        app = make(*args, **options)
        if app.state.transport_type != "streamable-http":
            return app
        anything = [ANY]
        return self.with_tasks(
            app,
            path=app.state.path,
            hosts=TransportSecuritySettings(allowed_hosts=anything, allowed_origins=anything),
            server_settings=settings,
            json_only=bool(options.get("json_response")),
        )

    def with_tasks(self, app: Starlette, **options: Any) -> HttpApp:
        """FastMCP's application with Taskmill's parts; the options are those of `http_app.with_tasks`."""
        return with_tasks(app, self.server, self.runtime, self._submission, **options)


class Wire(BaseModel):
    """A result as JSON, in the form in which FastMCP takes it from an extension.

    FastMCP drops fields of a model that are None; here `ttlMs` is null where a task is kept without limit.
    """

    body: dict[str, Any]

    @classmethod
    def of(cls, body: dict[str, Any]) -> "Wire":
        """The model of this JSON."""
        return cls(body=body)

    @model_serializer
    def whole(self) -> dict[str, Any]:
        """The JSON."""
        return self.body


def _as_sent(params: CallToolRequestParams, request: Request) -> CallToolRequestParams:
    """The call with its whole `_meta` and the answers of earlier rounds; middleware may have changed the rest."""
    sent = {**(request.params or {}), "name": params.name, "arguments": params.arguments or {}}
    return CallToolRequestParams.model_validate(sent, by_name=False)


def _only_as_task(tool: FastMCPTaskTool) -> ToolError:
    return ToolError(f"{tool.name} only runs as a background task: a client has to call it itself.")


def _refuse_without_task(name: str, request: Request) -> None:
    """Refuse a call that does not ask for a task.

    Raises:
        MCPError: -32601 where the client could have asked (2025-11-25, "Tool-Level Negotiation"), else -32021.
    """
    if request.protocol_version == TASKS_2025:
        raise method_not_found(f"{name} runs only as a task: call it with `task`.")
    require_tasks(request)


def _tool_result(answer: HandlerResult) -> ToolResult | BaseModel:
    """An answer as FastMCP's middleware expects it; but a hand-off in a form that no cache keeps as the result."""
    if isinstance(answer, HandOffBody):
        return CallToolResult.model_validate(answer, by_name=False)
    if isinstance(answer, dict):
        answer = CallToolResult.model_validate(answer, by_name=False)
    if isinstance(answer, InputRequiredResult):
        return InputRequiredToolResult(answer)
    if isinstance(answer, HandOffResult):
        return answer
    assert isinstance(answer, CallToolResult), "a call has one of these answers"
    return ToolResult.from_mcp_result(answer)
