"""What one server behind Taskmill offers: its tools, resources, templates and prompts, as it lists them.

Lists are asked for again when the server reports a change, and after a short time without one.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import TypeVar

from fastmcp.prompts.base import Prompt
from fastmcp.resources.base import Resource
from fastmcp.resources.template import ResourceTemplate
from fastmcp.server.providers.proxy import ProxyProvider
from fastmcp.tools.base import Tool
from fastmcp.utilities.versions import VersionSpec
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from mcp_types import (
    METHOD_NOT_FOUND,
    Completion,
    CompletionArgument,
    CompletionContext,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    PaginatedResult,
    PromptReference,
    ResourceTemplateReference,
    ServerCapabilities,
)
from mcp_types import (
    Tool as McpTool,
)
from pydantic import BaseModel

from taskmill.adapters.fastmcp.fastmcp_private import keep_listed
from taskmill.adapters.remote.components import RemotePrompt, RemoteResource, RemoteTemplate
from taskmill.adapters.remote.sessions import UpstreamSessions
from taskmill.adapters.remote.target import Upstream
from taskmill.adapters.remote.tools import RemoteTool
from taskmill.adapters.remote.words import GONE, UpstreamUnreachable
from taskmill.server.handlers.follow_up_tools import FOLLOW_UP_TOOLS

__all__ = ["RemoteProvider"]

Page = TypeVar("Page", bound=PaginatedResult)
Item = TypeVar("Item")
Ask = Callable[[ClientSession, PaginatedRequestParams | None], Awaitable[Page]]
_FRESH = 30.0
"""Seconds after which the tools are asked for again."""
_FRESH_FOR_UNKNOWN = 1.0
"""The same, for a name that is not among them."""
_LIST_TIMEOUT = 60.0
_GATHER, _PAUSE = 0.1, 1.0
"""Seconds in which reports of changes become one, and between two of these."""
_MOST_PAGES = 1000


class RemoteProvider(ProxyProvider):
    """FastMCP's proxy of one server, with a session for each caller."""

    def __init__(self, upstream: Upstream, repeat: Sequence[str]) -> None:
        """`repeat`: patterns of tools that the operator lets run again."""
        self.sessions = UpstreamSessions(upstream, self.note_change)
        self.on_change: list[Callable[[frozenset[str]], None]] = []
        """Called with what has changed, as sessions of callers were sent it: `tools`, `resources`, `prompts`."""
        self._changed: set[str] = set()
        self._changed_at = -_PAUSE
        """When changes were passed on last."""
        self._repeat = tuple(repeat)
        self._listed: Sequence[RemoteTool] = ()
        self._listed_at: float | None = None
        self._listing: asyncio.Lock | None = None
        self.instructions: str | None = None
        """What the server says of itself."""
        self.completes = False
        """Whether it completes arguments."""
        self._capabilities: ServerCapabilities | None = None
        super().__init__(self.sessions.client, cache_ttl=_FRESH)

    @property
    def prefix(self) -> str | None:
        """Before the names of what it offers; None = nothing is."""
        return self.sessions.upstream.prefix

    @property
    def listed(self) -> Sequence[McpTool]:
        """The tools as the server listed them last."""
        return [one.listed for one in self._listed]

    @property
    def reported_kinds(self) -> list[str]:
        """Of which lists the server reports changes: `tools`, `resources`, `prompts`."""
        declared = self._capabilities or ServerCapabilities()
        found = {"tools": declared.tools, "resources": declared.resources, "prompts": declared.prompts}
        return [kind for kind, one in found.items() if one is not None and one.list_changed]

    async def lists(self, session: ClientSession) -> Mapping[str, Sequence[BaseModel]]:
        """What is listed on this session now, of the kinds whose changes the server reports.

        Raises:
            MCPError, TimeoutError, or what the transport does: it cannot be asked.
        """
        found: dict[str, Sequence[BaseModel]] = {}
        for kind in self.reported_kinds:
            match kind:
                case "tools":
                    found[kind] = await _all_pages(session, _ask_tools, lambda page: page.tools)
                case "prompts":
                    found[kind] = await _all_pages(session, _ask_prompts, lambda page: page.prompts)
                case _:
                    templates = await _all_pages(session, _ask_templates, lambda page: page.resource_templates)
                    found[kind] = [*await _all_pages(session, _ask_resources, lambda page: page.resources), *templates]
        return found

    def forget(self) -> None:
        """The server has reported that its lists have changed."""
        self._listed_at = None

    def note_change(self, kind: str) -> None:
        """A session of a caller was sent that a list has changed. Many such reports are passed on as one."""
        self.forget()
        if not self._changed:
            delay = max(_GATHER, self._changed_at + _PAUSE - monotonic())
            asyncio.get_running_loop().call_later(delay, self._pass_changes_on)
        self._changed.add(kind)

    def _pass_changes_on(self) -> None:
        changed, self._changed, self._changed_at = frozenset(self._changed), set(), monotonic()
        for note in list(self.on_change):
            note(changed)

    async def load(self) -> None:
        """Learn its tools and what it says of itself, and disconnect: for a process that has no event loop yet.

        Raises:
            UpstreamUnreachable, MCPError: it cannot be asked.
        """
        try:
            async with await self.sessions.client() as client:
                self.instructions = client.instructions
                self._capabilities = capabilities = client.server_capabilities
                self.completes = capabilities is not None and capabilities.completions is not None
            await self._list_tools()
        finally:
            await self.sessions.close()
            self._listing = None

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Sessions end with the server that this is a part of."""
        try:
            yield
        finally:
            await self.sessions.close()

    def own_reference(
        self, ref: PromptReference | ResourceTemplateReference
    ) -> PromptReference | ResourceTemplateReference | None:
        """A reference as the server itself has it, None if it is to another server."""
        if self.prefix is None:
            return ref
        if isinstance(ref, PromptReference):
            before = f"{self.prefix}_"
            own = ref.name.removeprefix(before)
            return ref.model_copy(update={"name": own}) if ref.name.startswith(before) else None
        scheme, _, rest = ref.uri.partition("://")
        before = f"{self.prefix}/"
        own = f"{scheme}://{rest.removeprefix(before)}"
        return ref.model_copy(update={"uri": own}) if rest.startswith(before) else None

    async def complete(
        self,
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion:
        """What the server completes an argument with.

        Raises:
            UpstreamUnreachable, MCPError: it cannot be asked, or refuses.
        """
        async with await self.sessions.client() as client:
            given = {"name": argument.name, "value": argument.value}
            known = None if context is None else context.arguments
            return (await client.session.complete(ref, given, known)).completion

    async def _get_tool(self, name: str, version: VersionSpec | None = None) -> Tool | None:
        found = await super()._get_tool(name, version)
        if found is not None or name in FOLLOW_UP_TOOLS:
            return found
        if self._listed_at is not None and monotonic() - self._listed_at > _FRESH_FOR_UNKNOWN:
            self.forget()  # it may have come since
            found = await super()._get_tool(name, version)
        return found

    async def _list_tools(self) -> Sequence[Tool]:
        if self._is_fresh():
            return self._listed
        self._listing = self._listing or asyncio.Lock()
        async with self._listing:
            if not self._is_fresh():
                begun = monotonic()
                self._listed = await self._asked()
                self._listed_at = begun
        return self._listed

    def _is_fresh(self) -> bool:
        return self._listed_at is not None and monotonic() - self._listed_at < _FRESH

    async def _asked(self) -> Sequence[RemoteTool]:
        tools = await self._pages(_ask_tools, lambda page: page.tools)
        return [RemoteTool.of(tool, self.sessions, self._repeat) for tool in tools]

    async def _list_resources(self) -> Sequence[Resource]:
        listed = await self._pages(_ask_resources, lambda page: page.resources)
        return keep_listed(self, "resources", [RemoteResource.of(one, self.sessions.client) for one in listed])

    async def _list_resource_templates(self) -> Sequence[ResourceTemplate]:
        listed = await self._pages(_ask_templates, lambda page: page.resource_templates)
        return keep_listed(self, "templates", [RemoteTemplate.of(one, self.sessions.client) for one in listed])

    async def _list_prompts(self) -> Sequence[Prompt]:
        listed = await self._pages(_ask_prompts, lambda page: page.prompts)
        return keep_listed(self, "prompts", [RemotePrompt.of(one, self.sessions.client) for one in listed])

    async def _pages(
        self,
        ask: Ask[Page],
        of_page: Callable[[Page], Sequence[Item]],
    ) -> list[Item]:
        """Everything in one list of the server's; nothing if it has no such list.

        Raises:
            UpstreamUnreachable: there is no connection, or it ended.
        """
        client = await self.sessions.client()
        try:
            async with client:
                return await _all_pages(client.session, ask, of_page)
        except GONE as exc:
            raise UpstreamUnreachable(self.sessions.upstream.label, exc) from None


async def _ask_tools(session: ClientSession, params: PaginatedRequestParams | None) -> ListToolsResult:
    return await session.list_tools(params=params)


async def _ask_resources(session: ClientSession, params: PaginatedRequestParams | None) -> ListResourcesResult:
    return await session.list_resources(params=params)


async def _ask_templates(session: ClientSession, params: PaginatedRequestParams | None) -> ListResourceTemplatesResult:
    return await session.list_resource_templates(params=params)


async def _ask_prompts(session: ClientSession, params: PaginatedRequestParams | None) -> ListPromptsResult:
    return await session.list_prompts(params=params)


async def _all_pages(session: ClientSession, ask: Ask[Page], of_page: Callable[[Page], Sequence[Item]]) -> list[Item]:
    found: list[Item] = []
    cursor: str | None = None
    try:
        async with asyncio.timeout(_LIST_TIMEOUT):
            for _ in range(_MOST_PAGES):
                page = await ask(session, PaginatedRequestParams(cursor=cursor) if cursor else None)
                found += of_page(page)
                if (cursor := page.next_cursor) is None:
                    break
    except MCPError as exc:
        if exc.error.code != METHOD_NOT_FOUND:
            raise
        return []
    return found
