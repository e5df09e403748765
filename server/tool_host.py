"""`ToolHost`: all that commands, workers and tests ask of a server object, whatever made it.

`TaskServer` is one. To bring another kind of server (one of another framework, or one that runs elsewhere), implement
this Protocol, and let `cli/loading.py` make your class of what it finds in the author's file. No implementation lives
here, and nothing of a framework's but types of the SDK's protocol layer.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from anyio import AsyncFile
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp_types import CallToolRequestParams, CallToolResult, InputRequiredResult
from starlette.applications import Starlette

from taskmill.engine.policy import TaskConfig
from taskmill.engine.ports import ToolSource
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["CallHost", "HostTool", "TaskTools", "ToolHost"]


class HostTool(Protocol):
    """A task tool, as far as a call of it must know."""

    @property
    def name(self) -> str:
        """The name a client calls it by."""

    @property
    def policy(self) -> TaskConfig:
        """How its tasks run. It must not change while a call of the tool is submitted."""


class TaskTools(Protocol):
    """The task tools of one server as far as they are known without a caller: for lists, scopes and queues."""

    def find(self, name: str) -> HostTool | None:
        """The task tool of that name, None if there is none."""

    @property
    def has_scoped(self) -> bool:
        """Whether any task tool requires scopes."""

    def policies(self) -> Mapping[str, TaskConfig]:
        """Policy by tool name."""


class CallHost(Protocol):
    """What the creation of a task asks of a server: which tool a call names, and whether it may become a task."""

    @property
    def name(self) -> str:
        """What the server is called, as clients see it."""

    async def resolve(self, name: str, version: str | None = None) -> HostTool | None:
        """The task tool that this caller gets by that name; None = it has none, and the call is the host's own.

        `version`: for hosts whose tools have versions, None = the newest. What a caller may not see does not exist.
        """

    async def validate(
        self, tool: HostTool, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], *, resolves: bool
    ) -> Mapping[str, Any] | CallToolResult | InputRequiredResult:
        """The validated arguments of a call by name; or the result that a foreground call would have had instead.

        `resolves`: ask now what has to be asked before the tool runs. Arguments that do not fit are a `CallToolResult`
        with `is_error`; a host whose middleware expects an exception raises its own.

        Raises:
            MCPError: what must be asked needs a capability that the client lacks.
        """

    def carried(self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any]) -> Mapping[str, Any]:
        """What a worker must know of this call besides its arguments, answers, client, trace and caller, as JSON.

        It becomes part of the payload that the host's toolbox gets. Choose names of your own; the ones named above win.
        Never a token or another credential: a payload is stored, and sealed only where the operator has set a key.
        """


class ToolHost(CallHost, ToolSource, Protocol):
    """A loaded server object, and the toolbox of its workers (`ToolSource.toolbox`).

    The toolbox opens in worker processes, where none of the rest is served: enter the lifespan of the author there,
    without the store. Make each call exactly as a foreground call would be made, from what `validate` let pass.
    """

    store_settings: StoreSettings | None
    """The store that the author chose, None = the environment's. A command replaces it before it serves."""
    import_path: str | None
    """What another process loads this server by: `file.py:name`, `package.module:name`. None = nothing can.

    A command sets it to what its user wrote.
    """

    @property
    def needs_store(self) -> bool:
        """Whether it has task tools, or may get some while it serves. If not, it is served without a Redis."""

    @property
    def has_auth(self) -> bool:
        """Whether a request over HTTP needs an access token."""

    @property
    def lowlevel(self) -> Server[Any]:
        """The SDK's low-level server: the transports of ours run it, and its middleware is the outermost."""

    @property
    def store(self) -> TaskStore:
        """The open store.

        Raises:
            StoreUnavailable: the server is not serving, so it is not open.
            TaskNotFound: it has no task tools, and no Redis is configured: see `needs_store`.
        """

    def policies(self) -> Mapping[str, TaskConfig]:
        """Policy by name of each task tool.

        Known as soon as the server is loaded, before it serves: commands derive the queues from it. A host whose tools
        come and go lists those it has now.
        """

    async def tool_names(self) -> Sequence[str]:
        """Every tool of the author's, tasks or not, in the order that a client lists them.

        Also those that only some callers may call: a command asks, not a caller.
        """

    def http_app(
        self,
        *,
        path: str = "/mcp",
        host: str = "127.0.0.1",
        allowed_hosts: Sequence[str] = (),
        cors_origins: Sequence[str] = (),
        operator_token: str | None = None,
    ) -> Starlette:
        """The ASGI application: the MCP endpoint, the HTTP API, metrics and health; `app.py` has the parts.

        Its lifespan opens the store and the author's lifespan.

        Raises:
            UnsafeBinding: `host` is not localhost and `allowed_hosts` is empty; `*` without authentication.
            SettingsError: a name is no host, or an origin is none.
        """

    async def run_stdio_async(self, stdin: AsyncFile[str] | None = None, stdout: AsyncFile[str] | None = None) -> None:
        """Serve one connection over these streams (None = the process's own) until its input ends.

        Opens and closes the store and the author's lifespan around it.
        """
