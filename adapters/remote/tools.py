"""A tool of a server behind Taskmill: calls it, and decides whether a call may be made again."""

import asyncio
from collections.abc import Sequence
from contextvars import copy_context
from fnmatch import fnmatchcase
from typing import Any

import httpx2
import structlog
from fastmcp.server.context import Context
from fastmcp.server.dependencies import get_context
from fastmcp.server.providers.proxy import ProxyTool, default_proxy_progress_handler
from fastmcp.tools import base as tools_base
from fastmcp.tools.base import InputRequiredToolResult, ToolResult
from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import x_mcp_header_map
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    CONNECTION_CLOSED,
    INVALID_REQUEST,
    PROTOCOL_VERSION_META_KEY,
    SERVER_INFO_META_KEY,
    CallToolResult,
    InputRequiredResult,
    Tool,
)
from pydantic import PrivateAttr, ValidationError

from taskmill.adapters.fastmcp.current_task import current_attempt
from taskmill.adapters.remote.client import UpstreamClient
from taskmill.adapters.remote.sessions import UpstreamSessions
from taskmill.adapters.remote.words import UpstreamLost, not_repeated, wrong_answer
from taskmill.engine.context import TaskContext

__all__ = ["RemoteTool"]

log = structlog.get_logger()
_CALLED = "taskmill_called"
"""In the state of a task: the call has been sent, and has no answer yet."""
_REPEATS = 3
_FIRST_PAUSE = 0.5
_OF_CONNECTION = {PROTOCOL_VERSION_META_KEY, CLIENT_INFO_META_KEY, CLIENT_CAPABILITIES_META_KEY, SERVER_INFO_META_KEY}
_GONE = (httpx2.HTTPError, OSError, RuntimeError)
"""What the transport raises when the connection ends, beside the SDK's own error."""


class RemoteTool(ProxyTool):
    """FastMCP's proxied tool, called on the session of its caller."""

    _sessions: UpstreamSessions = PrivateAttr()
    _repeat: Sequence[str] = PrivateAttr(default=())
    _name_there: str = PrivateAttr()
    """The name that the server itself knows, whatever prefix it has here."""

    @classmethod
    def of(cls, tool: Tool, sessions: UpstreamSessions, repeat: Sequence[str]) -> "RemoteTool":
        """The tool that the server lists. `repeat`: patterns of tools that the operator lets run again."""
        made = cls.from_mcp_tool(sessions.client, tool)
        assert isinstance(made, RemoteTool)
        made._sessions, made._repeat, made._name_there = sessions, repeat, tool.name
        return made

    @property
    def label(self) -> str:
        """What the server is called."""
        return self._sessions.upstream.label

    @property
    def may_repeat(self) -> bool:
        """Whether a call whose worker died may be made again."""
        hints = self.annotations
        if hints is not None and (hints.read_only_hint or hints.idempotent_hint):
            return True
        return any(fnmatchcase(self.name, pattern) for pattern in self._repeat)

    async def run(self, arguments: dict[str, Any], context: Context | None = None) -> ToolResult:
        """Call the tool, and wait for as long as it takes.

        Raises:
            ToolError: the server could not be reached, or ended; or the call may have been made before.
            MCPError: the server's own answer.
        """
        attempt = current_attempt.get()
        if attempt is not None and _CALLED in attempt.journal.state and not self.may_repeat:
            raise not_repeated(self.name)
        pause = _FIRST_PAUSE
        for left in reversed(range(_REPEATS)):
            try:
                return await self._call(arguments, context or get_context(), attempt)
            except UpstreamLost as exc:
                if not left or not self.may_repeat:
                    raise
                log.warning("upstream.call_repeated", server=self.label, tool=self.name, why=str(exc), tries_left=left)
            await asyncio.sleep(pause)
            pause *= 2
        raise AssertionError("the last try raises")

    async def _call(self, arguments: dict[str, Any], context: Context, attempt: TaskContext | None) -> ToolResult:
        for is_last in (False, True):
            client = await self._sessions.client()
            try:
                async with client:
                    if attempt is not None:
                        await _mark(attempt, called=True)
                    result = await self._send(client, arguments, context)
            except MCPError as exc:
                if exc.error.code == CONNECTION_CLOSED:
                    raise UpstreamLost(self.label, self.name, exc) from None
                if _is_forgotten(exc) and not is_last:
                    client.is_lost = True  # it has been restarted, and has not made the call: a new session can
                    continue
                raise
            except ValidationError as exc:
                log.warning("upstream.wrong_answer", server=self.label, tool=self.name, errors=exc.error_count())
                raise wrong_answer(self.label, self.name) from None
            except _GONE as exc:
                raise UpstreamLost(self.label, self.name, exc) from None
            if attempt is not None and isinstance(result, InputRequiredResult):
                await _mark(attempt, called=False)  # it asks, and waits for another call
            return self._tool_result(result)
        raise AssertionError("the last round returns or raises")

    async def _send(
        self, client: UpstreamClient, arguments: dict[str, Any], context: Context
    ) -> CallToolResult | InputRequiredResult:
        if x_mcp_header_map(self.parameters):
            await client.learn_headers()
        result = await client.session.call_tool(
            self._name_there,
            arguments,
            progress_callback=_progress_callback(),
            input_responses=context.input_responses,
            request_state=context.request_state,
            allow_input_required=True,
        )
        assert isinstance(result, CallToolResult | InputRequiredResult)
        return result

    def _tool_result(self, result: CallToolResult | InputRequiredResult) -> ToolResult:
        if isinstance(result, InputRequiredResult):
            return InputRequiredToolResult(result)
        structured = result.structured_content
        kind: Any = ToolResult
        if structured is not None and not isinstance(structured, dict):
            kind = getattr(tools_base, "RawStructuredToolResult", ToolResult)
        return kind(  # type: ignore[no-any-return]  # a class of FastMCP's
            content=result.content, structured_content=structured, meta=_own_meta(result), is_error=result.is_error
        )


def _own_meta(result: CallToolResult) -> dict[str, Any] | None:
    """The tool's `_meta`, without what speaks of the server's connection to us."""
    return {name: value for name, value in (result.meta or {}).items() if name not in _OF_CONNECTION} or None


async def _mark(attempt: TaskContext, *, called: bool) -> None:
    """Note durably whether a call is under way, so that the next attempt knows."""
    state = attempt.journal.state
    if called:
        state[_CALLED] = True
    else:
        state.pop(_CALLED, None)
    await attempt.journal.save()


def _progress_callback() -> ProgressFnT:
    """Reports progress to the client of the present call; the SDK calls it in the context of the session."""
    own = copy_context()

    async def report(progress: float, total: float | None, message: str | None) -> None:
        reporting = default_proxy_progress_handler(progress, total, message)
        await asyncio.create_task(reporting, context=own.copy())

    return report


def _is_forgotten(error: MCPError) -> bool:
    """Whether the server no longer knows the session: it has been restarted."""
    return error.error.code == INVALID_REQUEST and "session" in error.error.message.lower()
