"""One session of a server behind Taskmill: FastMCP's proxy client, shared by the calls of one caller.

What the server sends in the middle of a call goes to that call: FastMCP's own handlers forward it, in the context in
which the call was made.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from importlib.metadata import version
from typing import Any, Self, TypeVar, get_args

import anyio
from fastmcp.client.transports import ClientTransport
from fastmcp.server.dependencies import get_context
from fastmcp.server.providers.proxy import (
    ProxyClient,
    default_proxy_elicitation_handler,
    default_proxy_progress_handler,
    default_proxy_roots_handler,
    default_proxy_sampling_handler,
)
from mcp.client.session import ClientRequestContext, ClientSession
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    CallToolResult,
    Implementation,
    LoggingLevel,
    LoggingMessageNotification,
    LoggingMessageNotificationParams,
    PromptListChangedNotification,
    ResourceListChangedNotification,
    ToolListChangedNotification,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from taskmill.adapters.fastmcp.fastmcp_private import sdk_request
from taskmill.adapters.remote.caller import has_roots
from taskmill.engine.events import LogMessage
from taskmill.server.handlers.log_levels import level_of
from taskmill.server.protocol.sdk_private import is_closed, request_without_types
from taskmill.server.protocol.shapes_2025 import RELATED_TASK
from taskmill.server.protocol.tasks_client import TasksClientExtension
from taskmill.server.streams.log_messages import is_wanted, message_notification

__all__ = ["USUAL_LOG_LEVEL", "UpstreamClient"]

T = TypeVar("T")
USUAL_LOG_LEVEL = "info"
"""From which level on a server logs for a client that has named none."""
_LEVEL_TIMEOUT = 5.0
"""Seconds in which a server has to take a level; a call waits no longer for it."""
_LEVELS = get_args(LoggingLevel)
_CONNECT_TIMEOUT = 60.0
"""Seconds that a server has for its first answer: one that npx installs first needs many."""
_LIST_CHANGES: dict[type[Any], str] = {
    ToolListChangedNotification: "tools",
    ResourceListChangedNotification: "resources",
    PromptListChangedNotification: "prompts",
}


class UpstreamClient(ProxyClient[ClientTransport]):
    """A session that its pool opens and closes. `async with` only counts who uses it."""

    def __init__(self, transport: ClientTransport, mode: str, on_list_changed: Callable[[str], None]) -> None:
        """`on_list_changed`: called with `tools`, `resources` or `prompts` when the server reports a change of them."""
        super().__init__(
            transport,
            mode=mode,
            forward_incoming_headers=False,
            client_info=Implementation(name="taskmill", version=version("taskmill")),
            init_timeout=_CONNECT_TIMEOUT,
            roots=self._roots,
            sampling_handler=self._sample,
            elicitation_handler=self._elicit,
            log_handler=self._log,
            progress_handler=self._progress,
            message_handler=self._receive,
            extensions=[TasksClientExtension(_not_resolved_here, _ignore)],
        )
        self.on_list_changed = on_list_changed
        self._calls: list[tuple[asyncio.Task[Any] | None, Context]] = []
        self._levels: dict[asyncio.Task[Any] | None, str | None] = {}
        """From which level on the callers of the present calls want log messages; None = they have named none."""
        self._level: str | None = None
        """What the server was asked for last."""
        self._asking_level = asyncio.Lock()
        self._by_task: dict[str, Context] = {}
        self._has_listed = False
        self.users = 0
        self.used_at = 0.0
        """Of the event loop's clock: when its last user left."""
        self.is_lost = False
        """Whether the server has forgotten the session, or it has been closed."""
        self.on_unused: Callable[[UpstreamClient], None] | None = None
        """Called when the last user has left."""

    @property
    def is_dead(self) -> bool:
        """Whether another session is needed."""
        return self.is_lost or not self.is_connected() or is_closed(self.session)

    async def open(self) -> None:
        """Connect. What is around the caller now does not reach later callers.

        Raises:
            Exception: whatever the transport or the server did.
        """
        connecting: Any = super().__aenter__()  # type: ignore[no-untyped-call]  # FastMCP's
        await asyncio.create_task(connecting, context=Context())

    async def __aenter__(self) -> Self:
        """Use it: it is not closed meanwhile, and what the server sends goes to this user."""
        self.users += 1
        self._calls.append((asyncio.current_task(), copy_context()))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Use it no longer."""
        self.users -= 1
        self.used_at = anyio.current_time()
        task = asyncio.current_task()
        at = max((at for at, (user, _) in enumerate(self._calls) if user is task), default=None)
        if at is not None:
            del self._calls[at]
        self._levels.pop(task, None)
        if self.on_unused is not None and not self.users:
            self.on_unused(self)

    @contextmanager
    def asking_for(self, task_id: str) -> Iterator[None]:
        """In the block, what the server asks in the name of this task of its own goes to the present call."""
        self._by_task[task_id] = copy_context()
        try:
            yield
        finally:
            self._by_task.pop(task_id, None)

    async def log_from(self, level: str | None) -> None:
        """Have the server log from this level on while this user's call runs; None = the client has named none.

        Of several calls the lowest counts: what each client is sent is decided by its own level. From 2026 on each
        request names a level.
        """
        capabilities = self.session.server_capabilities
        if capabilities is None or capabilities.logging is None:
            return
        if self.session.protocol_version in MODERN_PROTOCOL_VERSIONS or (level is None and self._level is None):
            return
        self._levels[asyncio.current_task()] = level
        async with self._asking_level:
            lowest = min((one or USUAL_LOG_LEVEL for one in self._levels.values()), key=_severity)
            if lowest != self._level:
                self._level = lowest  # a server that refuses is not asked again
                with suppress(MCPError, TimeoutError):
                    async with asyncio.timeout(_LEVEL_TIMEOUT):
                        await request_without_types(self.session, "logging/setLevel", {"level": lowest})

    async def learn_headers(self) -> None:
        """Have arguments that a tool wants in headers sent there: the SDK does so for tools that the session listed."""
        if not self._has_listed:
            self._has_listed = True
            await self.session.list_tools()

    async def close(self) -> None:
        """Disconnect, and end the command."""
        self.is_lost = True
        await super().close()  # type: ignore[no-untyped-call]  # FastMCP's

    async def _in_call(self, forward: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Forward to the client of the call that is meant: the one that runs, or the last one that began."""
        if not self._calls:
            raise MCPError(code=INVALID_REQUEST, message="No call is running, so there is no one to ask.")
        own = self._by_task.get(_task_of(args)) or self._calls[-1][1]
        return await asyncio.create_task(_coroutine(forward(*args)), context=own.copy())

    async def _roots(self, *args: Any) -> Any:
        return await self._in_call(_list_roots, *args)

    async def _sample(self, *args: Any) -> Any:
        return await self._in_call(default_proxy_sampling_handler, *args)

    async def _elicit(self, *args: Any) -> Any:
        return await self._in_call(default_proxy_elicitation_handler, *args)

    async def _log(self, *args: Any) -> None:
        if self._calls:
            await self._in_call(_forward_log, *args)

    async def _progress(self, *args: Any) -> None:
        # Of requests other than calls of tools, which have a handler each.
        if self._calls:
            await self._in_call(default_proxy_progress_handler, *args)

    async def _receive(self, message: Any) -> None:
        if (kind := _LIST_CHANGES.get(type(message))) is not None:
            self.on_list_changed(kind)


def _severity(level: str) -> int:
    return _LEVELS.index(level) if level in _LEVELS else len(_LEVELS)


async def _list_roots(context: Any) -> Any:
    if not has_roots.get():
        raise MCPError(code=METHOD_NOT_FOUND, message="The client has no roots.")
    return await default_proxy_roots_handler(context)


async def _forward_log(message: LoggingMessageNotificationParams) -> None:
    """Send a log message on as it is: FastMCP's own handler puts another shape around it."""
    context = get_context()
    request = sdk_request(context)
    sent = LogMessage(message.level, message.data, message.logger)
    if request is None or not is_wanted(sent, level_of(request)):
        return
    notification = LoggingMessageNotification.model_validate(message_notification(sent), by_name=False)
    await request.session.send_notification(notification, related_request_id=request.request_id)


def _task_of(args: Sequence[Any]) -> str:
    """The server's task that a request is about, by its `_meta`; empty = it names none."""
    meta = next((one.meta for one in args if isinstance(one, ClientRequestContext)), None) or {}
    related: Any = dict(meta).get(RELATED_TASK)
    return str(related.get("taskId", "")) if isinstance(related, dict) else ""


async def _not_resolved_here(_session: ClientSession, _task_id: str) -> CallToolResult:
    raise AssertionError("a call that became a task is followed by the tool")


def _ignore() -> None:
    pass


async def _coroutine(awaitable: Awaitable[T]) -> T:
    return await awaitable
