"""`TaskServer`: an `MCPServer` with `task=` on its tools. It only puts parts together; each has a file of its own."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from importlib.metadata import entry_points
from typing import Any, TypeVar, overload

from anyio import AsyncFile
from mcp.server.context import LifespanContextT, ServerRequestContext
from mcp.server.extension import Extension
from mcp.server.lowlevel import Server
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context as SdkContext
from mcp.server.mcpserver import MCPServer, RequestStateSecurity
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.stdio import stdio_server
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    GetPromptResult,
    Icon,
    InputRequiredResult,
    SubscriptionsListenRequestParams,
    ToolAnnotations,
)
from pydantic import AnyUrl, ValidationError
from starlette.types import Receive, Scope, Send

from taskmill.engine.context import CallerStatePort
from taskmill.engine.errors import PolicyError, StateUnavailable
from taskmill.engine.policy import TaskConfig
from taskmill.server.api.access import Access
from taskmill.server.app import build_app
from taskmill.server.audit.calls import AuditedCalls
from taskmill.server.auth.operators import operators_of
from taskmill.server.auth.principal import owner
from taskmill.server.auth.request_state import ROUND_TTL, SharedStateCodec
from taskmill.server.context.context import Context
from taskmill.server.handlers.caller_errors import CallerErrors
from taskmill.server.handlers.calls_without_tasks import CallsWithoutTasks
from taskmill.server.handlers.follow_up_tools import FOLLOW_UP_TOOLS, FollowUpTools, duplicate_tool
from taskmill.server.handlers.known_hosts import HostTable
from taskmill.server.handlers.resources import base_of, is_own, read_own
from taskmill.server.handlers.subscriptions import TaskListenHandler
from taskmill.server.handlers.tasks_2025 import Tasks2025
from taskmill.server.handlers.tasks_2026 import Tasks2026
from taskmill.server.handlers.tool_list import ToolListing
from taskmill.server.http.application import HttpApp
from taskmill.server.http.token_checks import token_rules
from taskmill.server.http.transport_security import origins_of, transport_security
from taskmill.server.protocol.errors import wire_errors
from taskmill.server.protocol.sdk_private import (
    auth_of,
    is_authorization_server,
    lowlevel_of,
    prompts_of,
    registered_tool,
    subscriptions_of,
)
from taskmill.server.sampling.own_model import OwnModel, SamplingHandler, SamplingSource
from taskmill.server.sessions.stdio_connection import serve_streams
from taskmill.server.settings import server_settings
from taskmill.server.tool_host import HostTool
from taskmill.server.tools.author_function import (
    author_function,
    foresee_result,
    make_callable,
    readable_refusals,
    without_context,
)
from taskmill.server.tools.import_path import import_path_of
from taskmill.server.tools.registry import TaskTool, ToolRegistry
from taskmill.server.tools.result_conversion import convert_results, returns_bare_dict
from taskmill.server.tools.runner import ToolRunner
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.server.tools.submission import Submission
from taskmill.server.tools.validation import validated_arguments, wrong_arguments
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["TaskServer"]

_RUNNERS = "taskmill.runner"
"""Group of the entry point that starts a server from its own file: the command line, which no room may import."""

_reading: ContextVar[Context[Any, Any]] = ContextVar("reading")
"""The context of the resource that is being read."""

F = TypeVar("F", bound=Callable[..., Any])
Lifespan = Callable[[Any], AbstractAsyncContextManager[LifespanContextT]]


class TaskServer(MCPServer[LifespanContextT]):
    """An MCP server whose tools may be tasks. Takes what `MCPServer` takes, and a few things more.

    `store`: where tasks are kept; None = read `TASKMILL_*` when the server starts.
    `visible_claims`: names of the claims in a caller's token that tools may see as `ctx.claims`.
    `hosts`: by `clientInfo.name` the seconds after which a call without tasks is handed off, None = never. A trailing
    `*` matches any rest. These entries override the table of known hosts.
    `follow_up_tools`: offer `task_wait` and its like to clients without tasks.
    `sampling`: the model that `ctx.sample` asks where the client has none, `anthropic/NAME`, `openai/NAME` or an async
    function; None = `TASKMILL_SAMPLING_MODEL`. `sampling_from="server"`: always; None = `TASKMILL_SAMPLING_FROM`.
    """

    _app: HttpApp | None = None
    _import_path: str | None = None

    def __init__(
        self,
        name: str | None = None,
        *args: Any,
        store: StoreSettings | None = None,
        visible_claims: Sequence[str] = (),
        hosts: Mapping[str, float | None] | None = None,
        follow_up_tools: bool = True,
        sampling: SamplingHandler | str | None = None,
        sampling_from: SamplingSource | None = None,
        lifespan: Lifespan[LifespanContextT] | None = None,
        extensions: Sequence[Extension] | None = None,
        request_state_security: RequestStateSecurity | None = None,
        **kwargs: Any,
    ) -> None:
        self.store_settings = store
        self.own_model = OwnModel(sampling, sampling_from)
        self._task_tools = ToolRegistry()
        self._runtime = ServerRuntime(visible_claims, self._task_tools)
        known = HostTable(hosts)
        self._submission = Submission(self._runtime, self)
        self._plain = CallsWithoutTasks(self._runtime, self._submission, known, has_follow_ups=follow_up_tools)
        self._author_lifespan: Lifespan[Any] = lifespan or _no_lifespan
        self._state_codec = SharedStateCodec()
        super().__init__(
            name,
            *args,
            lifespan=self._serving,
            extensions=[Tasks2026(self._runtime, self._submission, self._plain), *(extensions or ())],
            request_state_security=request_state_security
            or RequestStateSecurity(codec=self._state_codec, audience=name or "taskmill", ttl=ROUND_TTL),
            **kwargs,
        )
        self._author_auth = auth_of(self)
        self._wrap_middleware(known)
        if follow_up_tools:
            for tool_name, function in FollowUpTools(self._runtime, self._plain).tools():
                super().add_tool(function, tool_name, structured_output=False)
        if kwargs.get("subscriptions") is not False:
            self._push_tasks()

    @property
    def visible_claims(self) -> tuple[str, ...]:
        """Names of the claims in a caller's token that tools may see."""
        return self._runtime.visible_claims

    @property
    def store(self) -> TaskStore:
        """The store, while the server is serving.

        Raises:
            StoreUnavailable: it is not serving.
            TaskNotFound: it has no task tools, and no Redis is configured.
        """
        return self._runtime.store

    def caller_state(self, request: ServerRequestContext[Any, Any] | None) -> CallerStatePort:
        """See `ServerRuntime.caller_state`."""
        return self._runtime.caller_state(request)

    @property
    def import_path(self) -> str | None:
        """See `ToolHost`."""
        return self._import_path or import_path_of(self)

    @import_path.setter
    def import_path(self, value: str | None) -> None:
        self._import_path = value

    @property
    def has_auth(self) -> bool:
        """See `ToolHost`."""
        return self._author_auth is not None or server_settings(self.store_settings).auth_issuer is not None

    def auth_doubts(self) -> list[str]:
        """See `VerifiesTokens`: the SDK asks each author to say who checks the audience."""
        if self._author_auth is None or self._author_auth.validate_token_resource is not None:
            return []
        return ["validate_token_resource of AuthSettings is not set: tokens for other services may be accepted"]

    @property
    def needs_store(self) -> bool:
        """See `ToolHost`."""
        return bool(self.policies())

    @property
    def lowlevel(self) -> Server[Any]:
        """See `ToolHost`."""
        return lowlevel_of(self)

    def policies(self) -> Mapping[str, TaskConfig]:
        """Policy by name of each task tool."""
        return self._runtime.tools.policies()

    async def tool_names(self) -> list[str]:
        """Every tool but the follow-up tools, tasks or not."""
        return [tool.name for tool in await self.list_tools() if tool.name not in FOLLOW_UP_TOOLS]

    async def resolve(self, name: str, version: str | None = None) -> TaskTool | None:
        """See `ToolHost`; tools of the SDK have no versions."""
        return self._task_tools.find(name)

    async def validate(
        self, tool: HostTool, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], *, resolves: bool
    ) -> Mapping[str, Any] | CallToolResult | InputRequiredResult:
        """See `ToolHost`."""
        assert isinstance(tool, TaskTool), "a tool of this server's"
        return await validated_arguments(tool.tool, params, ctx, self._context, resolves=resolves)

    def carried(self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any]) -> Mapping[str, Any]:
        """See `ToolHost`: a call of an SDK tool needs nothing else."""
        return {}

    @overload
    def tool(self, name: F, /) -> F: ...

    @overload
    def tool(
        self,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        annotations: ToolAnnotations | None = None,
        icons: list[Icon] | None = None,
        meta: dict[str, Any] | None = None,
        structured_output: bool | None = None,
        *,
        task: bool | TaskConfig = False,
    ) -> Callable[[F], F]: ...

    def tool(
        self,
        name: str | F | None = None,
        title: str | None = None,
        description: str | None = None,
        annotations: ToolAnnotations | None = None,
        icons: list[Icon] | None = None,
        meta: dict[str, Any] | None = None,
        structured_output: bool | None = None,
        *,
        task: bool | TaskConfig = False,
    ) -> F | Callable[[F], F]:
        """Register a tool; `task=True` or a `TaskConfig` makes it a task tool. The rest is the SDK's.

        Without arguments the parentheses may be left out: `@mcp.tool`.

        Raises:
            DuplicateTool: there is a tool of that name.
            ToolUnfit: the function cannot be a tool as it is written.
            PolicyError: the policy contradicts itself.
        """
        if callable(name):
            self.add_tool(name)
            return name

        def register(function: F) -> F:
            self.add_tool(function, name, title, description, annotations, icons, meta, structured_output, task=task)
            return function

        return register

    def add_tool(
        self,
        fn: Callable[..., Any],
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        annotations: ToolAnnotations | None = None,
        icons: list[Icon] | None = None,
        meta: dict[str, Any] | None = None,
        structured_output: bool | None = None,
        *,
        task: bool | TaskConfig = False,
    ) -> None:
        """Register a function as a tool; see `tool`."""
        function, known = author_function(fn, name)
        if registered_tool(self, known) is not None:
            raise duplicate_tool(known)
        if task:
            self._runtime.require_closed(known)
        returns_object = returns_bare_dict(function)
        structured = None if returns_object and structured_output else structured_output
        with readable_refusals(function, known):
            super().add_tool(function, known, title, description, annotations, icons, meta, structured)
        tool = registered_tool(self, known)
        assert tool is not None
        make_callable(tool, in_task=bool(task))
        foresee_result(function, known)
        convert_results(tool, returns_object=returns_object, is_structured=structured_output)
        if task:
            try:
                self._task_tools.add(tool, task if isinstance(task, TaskConfig) else TaskConfig())
            except PolicyError:
                super().remove_tool(known)
                raise

    def resource(self, uri: str, **options: Any) -> Callable[[F], F]:
        """Register a resource or a template of resources; the options are the SDK's. It may take a `Context`.

        Raises:
            ToolUnfit: the function cannot be one as it is written.
        """
        register = super().resource(uri, **options)

        def register_own(function: F) -> F:
            made, known = author_function(function, None, kind="Resource")
            with readable_refusals(function, known, kind="Resource"):
                # The SDK gives the context to templates only.
                register(made if "{" in uri else without_context(made, _reading.get))
            return function

        return register_own

    def prompt(self, name: str | None = None, *args: Any, **options: Any) -> Callable[[F], F]:
        """Register a prompt; the options are the SDK's. It may take a `Context`.

        Raises:
            ToolUnfit: the function cannot be one as it is written.
        """
        register = super().prompt(name, *args, **options)

        def register_own(function: F) -> F:
            register(author_function(function, name, kind="Prompt")[0])
            return function

        return register_own

    def remove_tool(self, name: str) -> None:
        """Remove a tool. Tasks of it that are queued wait for a worker that still has it."""
        super().remove_tool(name)
        self._task_tools.remove(name)

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: SdkContext[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool in this process, as a foreground call does."""
        own = self._own_context(context)
        if self._task_tools.find(name) is not None:
            own.keep_state()
        try:
            return await super().call_tool(name, arguments, own)
        except ToolError as exc:
            if isinstance(exc.__cause__, ValidationError) and not isinstance(exc, UnexpectedToolError):
                raise wrong_arguments(registered_tool(self, name), exc.__cause__) from exc.__cause__
            if isinstance(exc.__cause__, StateUnavailable):
                raise ToolError(str(exc.__cause__)) from exc.__cause__
            raise

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: SdkContext[Any, Any] | None = None
    ) -> GetPromptResult | InputRequiredResult:
        """Render a prompt, with the context that tools get."""
        return await super().get_prompt(name, arguments, self._own_context(context))

    async def read_resource(
        self, uri: AnyUrl | str, context: SdkContext[Any, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """Read a resource: the author's, an artifact of a task, or the output of a task so far."""
        if not is_own(str(uri)):
            own = self._own_context(context)
            _reading.set(own)
            return await super().read_resource(uri, own)
        request = context.request_context if context is not None else None
        with wire_errors():
            store = self._runtime.store
        return await read_own(store, str(uri), owner(request), base_of(request.request if request else None))

    def http_app(
        self,
        *,
        path: str = "/mcp",
        host: str = "127.0.0.1",
        allowed_hosts: Sequence[str] = (),
        cors_origins: Sequence[str] = (),
        json_response: bool = False,
        operator_token: str | None = None,
        fast_paths: bool = True,
    ) -> HttpApp:
        """An ASGI application: the MCP endpoint at `path`, `/api/tasks`, `/metrics`, `/healthz` and `/readyz`.

        `cors_origins`: whose pages may use it from a browser: `https://app.example.com`, `http://localhost:*`, or `*`,
        which needs authentication.
        `operator_token`: bearer token of an operator, who may see and end every task over `/api`, beside those of the
        settings.
        `fast_paths`: answer plain requests about tasks without the SDK's dispatch, where the answers are the same.

        To mount it in another application, give that one its lifespan:
        `outer = FastAPI(lifespan=mcp.lifespan)`, `outer.mount("/tools", app)`.

        Raises:
            UnsafeBinding: `host` is not localhost and `allowed_hosts` is empty; `*` without authentication.
            SettingsError: a name is no host, or an origin is none.
        """
        origins = origins_of(cors_origins)
        settings = server_settings(self.store_settings)
        rules = token_rules(settings, self._author_auth, issues_tokens=is_authorization_server(self))
        hosts = transport_security(host, allowed_hosts, origins)
        self._app = build_app(
            self,
            self._runtime,
            self._task_tools,
            path=path,
            access=Access(hosts, rules.auth, operators_of(settings, operator_token), origins, bool(settings.audit)),
            rules=rules,
            host=host,
            json_response=json_response,
            fast_paths=self._submission if fast_paths else None,
        )
        return self._app

    @asynccontextmanager
    async def lifespan(self, outer: Any) -> AsyncIterator[Any]:
        """The lifespan for an application that `http_app()`, or the server itself, is mounted in."""
        async with (self._app or self.http_app()).lifespan(outer) as state:
            yield state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The server as an ASGI application: that of the last `http_app()`, else one with its defaults."""
        await (self._app or self.http_app())(scope, receive, send)

    def run(self, transport: str = "stdio", **options: Any) -> None:
        """Start server, worker and, where none is configured, Redis from the author's own file; ends the process.

        `transport`: `stdio` is `taskmill stdio FILE`, `http` and `streamable-http` are `taskmill run FILE`.
        `options`, for HTTP: `host`, `port`, `path`, `allowed_hosts`.
        """
        for runner in entry_points(group=_RUNNERS):
            runner.load()(self, transport, options)
            return
        raise PolicyError(f"No entry point {_RUNNERS} is installed: install Taskmill with pip, not as bare files.")

    async def run_stdio_async(self, stdin: AsyncFile[str] | None = None, stdout: AsyncFile[str] | None = None) -> None:
        """Serve one connection until its input ends. Without streams the process's own are taken, as the SDK does."""
        async with stdio_server(stdin, stdout) as (reading, writing):
            await serve_streams(self.lowlevel, reading, writing)

    @asynccontextmanager
    async def toolbox(self) -> AsyncIterator[ToolRunner]:
        """The task tools, inside the author's lifespan, for a worker."""
        self.own_model.check_at_start()
        async with self._author_lifespan(self) as state:
            yield ToolRunner(self, self._task_tools, state)

    @asynccontextmanager
    async def _serving(self, _server: Any) -> AsyncIterator[Any]:
        """The lifespan that the SDK runs once, over HTTP and stdio: the store if need be, and in it the author's."""
        settings = server_settings(self.store_settings).for_app(self.name)
        self.own_model.check_at_start()
        async with AsyncExitStack() as stack:
            # A Redis that is configured keeps the sessions of earlier revisions, also without task tools.
            if self.needs_store or settings.redis_url is not None:
                store = await stack.enter_async_context(self._runtime.serving(settings))
                await store.shared_secrets()
                self._state_codec.use(store.known_secrets)
            else:
                await stack.enter_async_context(self._runtime.serving_without_store(settings))
            state = await stack.enter_async_context(self._author_lifespan(self))
            await stack.enter_async_context(self._runtime.open_with(state))
            yield state

    def _wrap_middleware(self, known: HostTable) -> None:
        # Around the author's own middleware: the answers are the protocol's, not the tools'.
        listing = ToolListing(self._runtime, known)
        tasks = Tasks2025(self._runtime, self._submission, self._plain)
        self.middleware[:1] = [
            CallerErrors(prompts_of(self)),
            *self.middleware[:1],
            AuditedCalls(self._task_tools.find),
            listing,
            tasks,
        ]

    def _push_tasks(self) -> None:
        """Send task notifications to clients that listen: the SDK's constructor takes a bus but not the handler."""
        handler = TaskListenHandler(subscriptions_of(self), self._runtime)
        self.lowlevel.add_request_handler("subscriptions/listen", SubscriptionsListenRequestParams, handler)

    def _own_context(self, context: SdkContext[Any, Any] | None) -> Context[Any, Any]:
        return Context(mcp_server=self) if context is None else Context.wrap(context)

    def _context(self, ctx: ServerRequestContext[Any, Any], params: CallToolRequestParams) -> Context[Any, Any]:
        return Context(request_context=ctx, mcp_server=self, input_params=params, subscriptions=subscriptions_of(self))


@asynccontextmanager
async def _no_lifespan(_server: Any) -> AsyncIterator[dict[str, Any]]:
    yield {}
