"""The task tools of a FastMCP server: found by name and version as its callers find them, and what a call must pass.

FastMCP's tools come and go, and depend on the caller. What is known without one, for lists and queues, is what was
there when the server was loaded or when an unknown name was last met.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from fastmcp import FastMCP
from fastmcp.exceptions import FastMCPError, NotFoundError, ValidationError
from fastmcp.tools.base import Tool
from fastmcp.tools.function_tool import FunctionTool
from fastmcp.utilities.tasks import TaskConfig as FastMCPTaskConfig
from fastmcp.utilities.versions import VersionSpec, dedupe_with_versions
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp_types import LOG_LEVEL_META_KEY, CallToolRequestParams, CallToolResult, InputRequiredResult
from pydantic import ValidationError as PydanticValidationError

from taskmill.adapters.fastmcp.caller import PAYLOAD_KEY, as_operator, caller_of_call
from taskmill.adapters.fastmcp.config import policy_of
from taskmill.adapters.fastmcp.docket_dependencies import refuse_docket
from taskmill.adapters.fastmcp.fastmcp_private import tool_behind, validate_arguments
from taskmill.engine.errors import PolicyError
from taskmill.engine.policy import TaskConfig as Policy
from taskmill.server.handlers.follow_up_tools import FOLLOW_UP_TOOLS
from taskmill.server.handlers.log_levels import asked_level
from taskmill.server.protocol.arguments import faults_by_schema, faults_of, in_own_words, refused_arguments
from taskmill.server.protocol.client_class import ClientClass, client_class_of
from taskmill.server.sampling.own_model import OwnModel
from taskmill.server.tool_host import HostTool
from taskmill.server.tools.registry import check_scheduled_call

__all__ = ["FastMCPTaskTool", "FastMCPTools", "NewTools"]


@dataclass(frozen=True, slots=True)
class FastMCPTaskTool:
    """A task tool of a FastMCP server, in one version."""

    name: str
    policy: Policy
    tool: Tool


class FastMCPTools:
    """The task tools of one server."""

    def __init__(
        self, also: Mapping[str, FastMCPTaskConfig], *, carries_token: bool, own_model: OwnModel | None = None
    ) -> None:
        """`also`: by a pattern of names, tools that FastMCP itself cannot mark as tasks."""
        self.own_model = own_model or OwnModel(None, None)
        """The model that its tools ask where a client has none."""
        self._also = dict(also)
        self._carries_token = carries_token
        self._server: FastMCP[Any] | None = None
        self._known: dict[str, FastMCPTaskTool] = {}
        self._names: frozenset[str] = frozenset()

    @property
    def server(self) -> FastMCP[Any]:
        """The server, once it has the extension."""
        assert self._server is not None, "add the extension to a server first: mcp.add_extension(Tasks())"
        return self._server

    @property
    def name(self) -> str:
        """See `CallHost`."""
        return self.server.name

    def bind(self, server: FastMCP[Any]) -> None:
        """Know the server."""
        self._server = server

    def find(self, name: str) -> FastMCPTaskTool | None:
        """The task tool of that name, None if none is known."""
        return self._known.get(name)

    @property
    def has_scoped(self) -> bool:
        """Whether any task tool requires scopes."""
        return any(tool.policy.scopes for tool in self._known.values())

    def policies(self) -> Mapping[str, Policy]:
        """Policy by tool name."""
        return {name: tool.policy for name, tool in self._known.items()}

    async def collect(self) -> None:
        """Learn which task tools there are now, for any caller.

        Raises:
            PolicyError: a policy does not fit its tool.
        """
        with as_operator():
            tools = [one for one in await self.server.get_tasks() if isinstance(one, Tool)]
            if self._also:
                tools += await self.server.list_tools(run_middleware=False)
        newest = dedupe_with_versions(tools, lambda tool: tool.name)
        found = {tool.name: made for tool in newest if (made := self._made_of(tool)) is not None}
        for name, made in found.items():
            _check(name, made)
        self._known = found
        self._names = frozenset(tool.name for tool in tools)

    async def collect_unknown(self, names: Sequence[str]) -> None:
        """Learn again if one of these names has not been met: the server has got new tools."""
        if not self._names.issuperset(names):
            await self.collect()
            self._names = self._names.union(names)

    async def resolve(self, name: str, version: str | None = None) -> FastMCPTaskTool | None:
        """See `CallHost`."""
        tool = await self._tool(name, version)
        made = None if tool is None else self._made_of(tool)
        if made is not None and name not in self._known:
            self._known[name] = made
        return made

    async def validate(
        self, tool: HostTool, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], *, resolves: bool
    ) -> Mapping[str, Any] | CallToolResult | InputRequiredResult:
        """See `CallHost`. Arguments of tools that are no function are compared with their schema.

        Raises:
            ValidationError: they do not fit; FastMCP's middleware expects it.
        """
        assert isinstance(tool, FastMCPTaskTool), "a tool of this server's"
        arguments = params.arguments or {}
        schema = tool.tool.parameters
        cause: PydanticValidationError | None = None
        faults: Sequence[str] = ()
        match await tool_behind(tool.tool):
            case FunctionTool() as function:
                try:
                    validate_arguments(function, arguments)
                except PydanticValidationError as exc:
                    cause, faults = exc, faults_of(exc)
            case Tool():
                faults = faults_by_schema(arguments, schema)
        if faults:
            raise ValidationError(refused_arguments(tool.name, faults, schema), log_level=logging.WARNING) from cause
        return arguments

    async def in_words(self, error: FastMCPError, name: str, version: str | None = None) -> str:
        """What the caller of a tool reads of an error: FastMCP's own text, without that of pydantic in it."""
        cause = error.__cause__
        if not isinstance(cause, PydanticValidationError) or str(cause) != str(error):
            return in_own_words(str(error), error)
        tool = await self._tool(name, version)
        return refused_arguments(name, faults_of(cause), tool.parameters if tool else None)

    def carried(self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any]) -> Mapping[str, Any]:
        """See `CallHost`: who called, over what, in which session, which version, and whether as a task."""
        kept = caller_of_call(params, with_token=self._carries_token)
        if (level := asked_level(ctx)) is not None:
            kept["meta"] = {**kept.get("meta", {}), LOG_LEVEL_META_KEY: level}
        as_task = client_class_of(ctx) in (ClientClass.TASKS_2025, ClientClass.TASKS_2026)
        return {PAYLOAD_KEY: {**kept, "protocol": ctx.protocol_version, "as_task": as_task}}

    async def _tool(self, name: str, version: str | None) -> Tool | None:
        with suppress(NotFoundError):
            return await self.server.get_tool(name, VersionSpec(eq=version) if version else None)
        return None

    def _made_of(self, tool: Tool) -> FastMCPTaskTool | None:
        config = tool.task_config
        if not config.supports_tasks() and tool.name not in FOLLOW_UP_TOOLS:
            patterns = (one for pattern, one in self._also.items() if fnmatchcase(tool.name, pattern))
            config = next(patterns, config)
        policy = policy_of(config)
        return None if policy is None else FastMCPTaskTool(tool.name, policy, tool)


class NewTools:
    """Server middleware that notices tools which have come since the server was loaded.

    It learns from what `tools/list` is answered with, before `ToolListing` shapes it.
    """

    def __init__(self, tools: FastMCPTools) -> None:
        self._tools = tools

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Pass everything on."""
        result = await call_next(ctx)
        if ctx.method == "tools/list" and isinstance(result, dict):
            await self._tools.collect_unknown([tool["name"] for tool in result.get("tools", ())])
        return result


def _check(name: str, made: FastMCPTaskTool) -> None:
    try:
        if isinstance(made.tool, FunctionTool):
            refuse_docket(made.tool.fn)
        schema = made.tool.parameters
        made.policy.check_against(list(schema.get("properties", {})), schema.get("required", ()))
        if made.policy.firings is not None:
            check = partial(validate_arguments, made.tool) if isinstance(made.tool, FunctionTool) else dict[str, Any]
            check_scheduled_call(name, made.policy, check)
    except PolicyError as exc:
        raise PolicyError(f"Tool {name!r}: {exc}") from None
