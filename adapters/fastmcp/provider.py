"""What Taskmill itself offers on a FastMCP server: the follow-up tools, and artifacts and output of tasks as resources.

FastMCP asks its providers in the order in which they were added, so an author's tool of the same name would win; the
server refuses that at its start.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.resources.base import Resource, ResourceContent, ResourceResult
from fastmcp.server.context import Context
from fastmcp.server.dependencies import get_context
from fastmcp.server.providers.base import Provider
from fastmcp.tools.base import Tool, ToolResult
from fastmcp.tools.function_tool import FunctionTool
from fastmcp.utilities.versions import VersionSpec
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver.exceptions import ToolError as SdkToolError
from pydantic import AnyUrl, PrivateAttr

from taskmill.adapters.fastmcp.fastmcp_private import sdk_request
from taskmill.server.auth.principal import owner
from taskmill.server.handlers.follow_up_tools import FollowUpTools, duplicate_tool
from taskmill.server.handlers.resources import base_of, is_own, read_own
from taskmill.server.protocol.errors import wire_errors
from taskmill.server.tools.runtime import ServerRuntime

__all__ = ["TaskmillProvider"]


@dataclass(frozen=True)
class _CallContext:
    """All that a follow-up tool asks of its context."""

    request_context: ServerRequestContext[Any, Any]


class TaskmillProvider(Provider):
    """The follow-up tools, and the resources of tasks."""

    def __init__(self, runtime: ServerRuntime, follow_up_tools: FollowUpTools | None) -> None:
        """`follow_up_tools`: None = clients without tasks are offered none."""
        super().__init__()
        self._runtime = runtime
        found = follow_up_tools.tools() if follow_up_tools else []
        self._tools = [_tool_of(name, function) for name, function in found]

    def has_tool(self, name: str) -> bool:
        """Whether the tool of that name is one of these."""
        return any(tool.name == name for tool in self._tools)

    async def check_names(self, server: FastMCP[Any]) -> None:
        """Refuse a tool of the author's with the name of one of these.

        Raises:
            DuplicateTool: there is one.
        """
        for own in self._tools:
            found = await server.get_tool(own.name)
            if isinstance(found, FunctionTool) and found.fn is not own.fn:
                raise duplicate_tool(own.name, "mcp.add_extension(Tasks(follow_up_tools=False))")

    async def _list_tools(self) -> Sequence[Tool]:
        # Only where calls are served: not on a server that is mounted in another, and not in a worker.
        return self._tools if self._runtime.is_open else ()

    async def _get_resource(self, uri: str, version: VersionSpec | None = None) -> Resource | None:
        return TaskResource.at(uri, self._runtime) if is_own(uri) else None


class TaskResource(Resource):
    """An artifact, or the output of a task so far; for its owner only."""

    _runtime: ServerRuntime = PrivateAttr()

    @classmethod
    def at(cls, uri: str, runtime: ServerRuntime) -> "TaskResource":
        """The resource of that URI, whether or not there is anything."""
        made = cls(uri=AnyUrl(uri), name=uri)
        made._runtime = runtime
        return made

    async def read(self) -> ResourceResult:
        """The contents.

        Raises:
            MCPError: unknown, expired, of another principal, or too large for a reply.
        """
        request = sdk_request(get_context())
        with wire_errors():
            store = self._runtime.store
        base = base_of(request.request if request else None)
        contents = await read_own(store, str(self.uri), owner(request), base)
        return ResourceResult([ResourceContent(one.content, mime_type=one.mime_type) for one in contents])


def _tool_of(name: str, function: Callable[..., Any]) -> FunctionTool:
    """A follow-up tool as FastMCP has tools."""
    shown = [parameter for key, parameter in inspect.signature(function).parameters.items() if key != "ctx"]

    async def call(ctx: Context, **arguments: Any) -> ToolResult:
        request = sdk_request(ctx)
        if request is None:
            raise ToolError(f"{name} works in a call of a client only.")
        try:
            return ToolResult.from_mcp_result(await function(**arguments, ctx=cast("Any", _CallContext(request))))
        except SdkToolError as exc:
            raise ToolError(str(exc)) from exc

    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=Context)
    call.__name__, call.__doc__ = name, function.__doc__
    call.__signature__ = inspect.Signature([*shown, context])  # type: ignore[attr-defined]  # what inspect reads
    call.__annotations__ = {one.name: one.annotation for one in shown} | {"ctx": Context}
    return Tool.from_function(call, name=name, output_schema=None)
