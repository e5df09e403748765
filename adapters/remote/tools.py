"""A tool of a server behind Taskmill: called on the session of its caller, and perhaps called again.

What has been sent is noted in our own task before it is sent, so the next attempt knows. A task of the server's own is
noted by its id, and followed from then on.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from contextvars import copy_context
from fnmatch import fnmatchcase
from secrets import token_hex
from typing import Any

import structlog
from fastmcp.exceptions import ToolError
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
    INVALID_PARAMS,
    INVALID_REQUEST,
    LOG_LEVEL_META_KEY,
    PROTOCOL_VERSION_META_KEY,
    SERVER_INFO_META_KEY,
    CallToolResult,
    InputRequiredResult,
    Tool,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import PrivateAttr, ValidationError

from taskmill.adapters.fastmcp.current_task import current_attempt
from taskmill.adapters.fastmcp.fastmcp_private import sdk_request
from taskmill.adapters.remote.call_record import AttemptRecord
from taskmill.adapters.remote.caller import calling_as, present_caller
from taskmill.adapters.remote.client import USUAL_LOG_LEVEL, UpstreamClient
from taskmill.adapters.remote.sessions import UpstreamSessions
from taskmill.adapters.remote.upstream_tasks import UpstreamTask, has_tasks, runs_as_2025_task
from taskmill.adapters.remote.words import (
    GONE,
    UpstreamLost,
    UpstreamUnreachable,
    not_repeated,
    task_forgotten,
    wrong_answer,
)
from taskmill.engine.errors import FenceLost
from taskmill.server.handlers.log_levels import asked_level
from taskmill.server.protocol.sdk_private import request_without_types
from taskmill.server.protocol.tasks_client import CreatedTask

__all__ = ["RemoteTool"]

log = structlog.get_logger()
_REPEATS = 3
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
_CANCEL_TIMEOUT = 2.0
"""Seconds that a cancel may take: the worker waits no longer for a tool that it stops."""
_LONGEST_LEASE = 60.0
"""Seconds within which a renewal surely follows."""
_FOLLOW_TRIES = 40
"""How often a connection is made again in a row to follow a task: some ten minutes."""
_OF_CONNECTION = {PROTOCOL_VERSION_META_KEY, CLIENT_INFO_META_KEY, CLIENT_CAPABILITIES_META_KEY, SERVER_INFO_META_KEY}
Answer = CallToolResult | InputRequiredResult


class RemoteTool(ProxyTool):
    """FastMCP's proxied tool, with the rules of a call that outlives its worker."""

    _sessions: UpstreamSessions = PrivateAttr()
    _repeat: Sequence[str] = PrivateAttr(default=())
    _listed: Tool = PrivateAttr()
    """As the server itself lists it, whatever prefix it has here."""

    @classmethod
    def of(cls, tool: Tool, sessions: UpstreamSessions, repeat: Sequence[str]) -> "RemoteTool":
        """The tool that the server lists. `repeat`: patterns of tools that the operator lets run again."""
        made = cls.from_mcp_tool(sessions.client, tool)
        assert isinstance(made, RemoteTool)
        made._sessions, made._repeat, made._listed = sessions, repeat, tool
        return made

    def to_mcp_tool(self, **overrides: Any) -> Tool:
        """As the server itself lists it. Whether it runs as a task here is added by Taskmill's list of tools."""
        return self._listed.model_copy(update={"name": self.name, "execution": None})

    @property
    def listed(self) -> Tool:
        """As the server lists it."""
        return self._listed

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
        own = context or get_context()
        caller = present_caller()
        if caller.is_shared:
            return await self._answered(arguments, own)
        caller = self._sessions.asked_by(own.request_state) or caller.for_one_call(token_hex(8))
        asked: str | None = None
        try:
            with calling_as(caller):
                result = await self._answered(arguments, own)
            if isinstance(result, InputRequiredToolResult):
                asked = result.input_required.request_state
            return result
        finally:
            self._sessions.end_call(caller, asked)

    async def _answered(self, arguments: dict[str, Any], own: Context) -> ToolResult:
        record = AttemptRecord(current_attempt.get())
        if record.is_open and not self.may_repeat:
            raise not_repeated(self.name)
        for left in reversed(range(_REPEATS)):
            try:
                return self._tool_result(await self._answer(arguments, own, record))
            except UpstreamLost as exc:
                if not left or not self.may_repeat:
                    raise
                log.warning("upstream.call_repeated", server=self.label, tool=self.name, why=str(exc), tries_left=left)
            await asyncio.sleep(_FIRST_PAUSE * 2 ** (_REPEATS - 1 - left))
        raise AssertionError("the last try raises")

    async def _answer(self, arguments: dict[str, Any], context: Context, record: AttemptRecord) -> Answer:
        """Make the call, or follow the task that an earlier attempt made of it."""
        if (task := record.task) is None:
            made = await self._call(arguments, context, record)
            if not isinstance(made, UpstreamTask):
                if isinstance(made, InputRequiredResult):
                    await record.close()  # it asks, and waits for another call
                return made
            task = made
        try:
            if record.task is None:
                await record.created(task)
            return await self._follow(task, record)
        except asyncio.CancelledError:
            await self._leave(task, record)
            raise
        except FenceLost:
            # Ours was cancelled, or is another worker's: the next renewal tells which, as it cancels this attempt.
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(_LONGEST_LEASE)
            await self._leave(task, record)
            raise

    async def _leave(self, task: UpstreamTask, record: AttemptRecord) -> None:
        """Cancel the server's task with ours; where another worker may follow it, make sure that it can."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CANCEL_TIMEOUT):
                if record.may_follow_later and await record.is_kept(task):
                    return
        with suppress(ToolError, MCPError, TimeoutError, *GONE):
            async with asyncio.timeout(_CANCEL_TIMEOUT), await self._sessions.client() as client:
                await task.cancel(client.session)

    async def _call(self, arguments: dict[str, Any], context: Context, record: AttemptRecord) -> Answer | UpstreamTask:
        for is_last in (False, True):
            client = await self._sessions.client()
            try:
                async with client:
                    await client.log_from(_asked_level(context))
                    await record.open()
                    return await self._send_or_cancel(client, arguments, context, record)
            except MCPError as exc:
                if exc.error.code == CONNECTION_CLOSED:
                    raise UpstreamLost(self.label, self.name, exc) from None
                if not _is_forgotten(exc) or is_last:
                    raise
                client.is_lost = True  # the server was restarted, and has not made the call: a new session can
            except ValidationError as exc:
                log.warning("upstream.wrong_answer", server=self.label, tool=self.name, errors=exc.error_count())
                raise wrong_answer(self.label, self.name) from None
            except GONE as exc:
                raise UpstreamLost(self.label, self.name, exc) from None
        raise AssertionError("the last round returns or raises")

    async def _send_or_cancel(
        self, client: UpstreamClient, arguments: dict[str, Any], context: Context, record: AttemptRecord
    ) -> Answer | UpstreamTask:
        sending = asyncio.create_task(self._send(client, arguments, context))
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            # The server may just have made a task of the call: without its id no one could cancel that.
            if has_tasks(client.server_capabilities):
                await asyncio.wait([sending], timeout=_CANCEL_TIMEOUT)
            sending.cancel()
            await asyncio.wait([sending])
            if not sending.cancelled() and sending.exception() is None:
                made = sending.result()
                if isinstance(made, UpstreamTask):
                    await self._leave(made, record)
            raise

    async def _send(self, client: UpstreamClient, arguments: dict[str, Any], context: Context) -> Answer | UpstreamTask:
        session, name = client.session, self._listed.name
        if runs_as_2025_task(self._listed, session.protocol_version, session.server_capabilities):
            made = await request_without_types(
                session, "tools/call", {"name": name, "arguments": arguments, "task": {}}
            )
            if "task" in made:
                return UpstreamTask(str(made["task"]["taskId"]), "2025")
            return CallToolResult.model_validate(made, by_name=False)
        if x_mcp_header_map(self.parameters):
            await client.learn_headers()
        result = await session.call_tool(
            name,
            arguments,
            progress_callback=_progress_callback(),
            input_responses=context.input_responses,
            request_state=context.request_state,
            meta=_log_meta(session.protocol_version, context),
            allow_input_required=True,
            allow_claimed=True,
        )
        if isinstance(result, CreatedTask):
            return UpstreamTask(result.task_id, "2026")
        assert isinstance(result, CallToolResult | InputRequiredResult)
        return result

    async def _follow(self, task: UpstreamTask, record: AttemptRecord) -> CallToolResult:
        """The result of the server's task, over as many connections as that takes."""
        tries = 0
        while True:
            try:
                async with await self._sessions.client() as client:
                    tries = 0
                    return await self._follow_connected(task, client, record)
            except MCPError as exc:
                if _is_forgotten(exc):
                    client.is_lost = True
                elif exc.error.code != CONNECTION_CLOSED:
                    raise
            except UpstreamUnreachable:
                if tries >= _FOLLOW_TRIES:
                    raise
            except ValidationError:
                raise wrong_answer(self.label, self.name) from None
            except GONE as exc:
                log.info("upstream.connection_ended", server=self.label, tool=self.name, why=type(exc).__name__)
            tries += 1
            await asyncio.sleep(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(tries, 10)))

    async def _follow_connected(
        self, task: UpstreamTask, client: UpstreamClient, record: AttemptRecord
    ) -> CallToolResult:
        try:
            return await task.follow(client, record.attempt)
        except MCPError as exc:
            if exc.error.code != INVALID_PARAMS or "task" not in exc.error.message.lower():
                raise
            await record.close()
            if self.may_repeat:
                raise UpstreamLost(self.label, self.name, exc) from None
            raise task_forgotten(self.label, self.name) from None

    def _tool_result(self, result: Answer) -> ToolResult:
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


def _log_meta(version: str | None, context: Context) -> Any:
    """`_meta` of a call. From 2026 on a server logs only for requests that say from which level on."""
    if version not in MODERN_PROTOCOL_VERSIONS:
        return None
    return {LOG_LEVEL_META_KEY: _asked_level(context) or USUAL_LOG_LEVEL}


def _asked_level(context: Context) -> str | None:
    request = sdk_request(context)
    return None if request is None else asked_level(request)


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
