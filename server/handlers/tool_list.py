"""What `tools/list` shows of task tools, by class of client. Everything else of the list is left to the SDK."""

from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from taskmill.server.auth.scopes import caller_record, missing_scopes
from taskmill.server.handlers.follow_up_tools import FOLLOW_UP_TOOLS
from taskmill.server.handlers.known_hosts import HostTable
from taskmill.server.protocol.client_class import TASKS_2025, ClientClass, client_class_of, client_info
from taskmill.server.tools.runtime import ServerRuntime

__all__ = ["ToolListing"]


class ToolListing:
    """Server middleware."""

    def __init__(self, runtime: ServerRuntime, hosts: HostTable) -> None:
        self._runtime = runtime
        self._tools = runtime.tools
        self._hosts = hosts

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Pass everything on, and change the list of tools."""
        result = await call_next(ctx)
        if ctx.method != "tools/list" or not isinstance(result, dict) or "tools" not in result:
            return result
        plain = self._is_plain(ctx)
        listed = [tool for tool in result["tools"] if self._may_call(tool["name"], ctx)]
        tools = [self._shaped(tool, ctx.protocol_version, plain=plain) for tool in listed]
        shown = [tool for tool in tools if tool["name"] not in FOLLOW_UP_TOOLS]
        if plain and self._tools.policies():
            shown += [tool for tool in tools if tool["name"] in FOLLOW_UP_TOOLS]
        if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            # The list depends on what this client declared, so no cache may serve it to others.
            return {**result, "tools": shown, "cacheScope": "private"}
        return {**result, "tools": shown}

    def _is_plain(self, ctx: ServerRequestContext[Any, Any]) -> bool:
        """Whether this client will call without tasks, as far as one can know before the call."""
        if client_class_of(ctx) is not ClientClass.PLAIN:
            return False
        host = self._hosts.find(*client_info(ctx))
        return ctx.protocol_version != TASKS_2025 or host is None or not host.follows_tasks

    def _may_call(self, name: str, ctx: ServerRequestContext[Any, Any]) -> bool:
        """Whether this caller has the scopes of a tool: what it may not call, its model need not know."""
        entry = self._tools.find(name)
        if entry is None or not entry.policy.scopes:
            return True
        caller = caller_record(over_http=ctx.request is not None or self._runtime.serves_http, visible=())
        return not missing_scopes(entry.policy, caller)

    def _shaped(self, tool: dict[str, Any], version: str, *, plain: bool) -> dict[str, Any]:
        entry = self._tools.find(tool["name"])
        if entry is None:
            return tool
        shaped = dict(tool)
        if plain:
            # A hand-off has no structured content, and clients reject a result that lacks what a schema promises.
            shaped.pop("outputSchema", None)
        if version == TASKS_2025:
            shaped["execution"] = {"taskSupport": entry.policy.mode}
        return shaped
