"""What one server behind Taskmill offers: its tools, resources, templates and prompts, as it lists them.

Lists are asked for again when the server reports a change, and after a short time without one.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic

from fastmcp.server.providers.proxy import ProxyProvider
from fastmcp.tools.base import Tool
from fastmcp.utilities.versions import VersionSpec
from mcp.shared.exceptions import MCPError
from mcp_types import (
    METHOD_NOT_FOUND,
    Completion,
    CompletionArgument,
    CompletionContext,
    ListToolsResult,
    PaginatedRequestParams,
    PromptReference,
    ResourceTemplateReference,
)

from taskmill.adapters.remote.sessions import UpstreamSessions
from taskmill.adapters.remote.target import Upstream
from taskmill.adapters.remote.tools import RemoteTool

__all__ = ["RemoteProvider"]

_FRESH = 30.0
"""Seconds after which the tools are asked for again."""
_FRESH_FOR_UNKNOWN = 1.0
"""The same, for a name that is not among them."""
_LIST_TIMEOUT = 60.0
_MOST_PAGES = 1000


class RemoteProvider(ProxyProvider):
    """FastMCP's proxy of one server, with a session for each caller."""

    def __init__(self, upstream: Upstream, repeat: Sequence[str]) -> None:
        """`repeat`: patterns of tools that the operator lets run again."""
        self.sessions = UpstreamSessions(upstream, self.forget)
        self._repeat = tuple(repeat)
        self._listed: Sequence[RemoteTool] = ()
        self._listed_at: float | None = None
        self._listing: asyncio.Lock | None = None
        self.instructions: str | None = None
        """What the server says of itself."""
        self.completes = False
        """Whether it completes arguments."""
        super().__init__(self.sessions.client, cache_ttl=_FRESH)

    @property
    def prefix(self) -> str | None:
        """Before the names of what it offers; None = nothing is."""
        return self.sessions.upstream.prefix

    def forget(self) -> None:
        """The server has reported that its lists have changed."""
        self._listed_at = None

    async def load(self) -> None:
        """Learn its tools and what it says of itself, and disconnect: for a process that has no event loop yet.

        Raises:
            UpstreamUnreachable, MCPError: it cannot be asked.
        """
        try:
            async with await self.sessions.client() as client:
                self.instructions = client.instructions
                capabilities = client.server_capabilities
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
        if found is None and self._listed_at is not None and monotonic() - self._listed_at > _FRESH_FOR_UNKNOWN:
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
        client = await self.sessions.client()
        async with client, asyncio.timeout(_LIST_TIMEOUT):
            try:
                pages = [await client.session.list_tools()]
                while pages[-1].next_cursor and len(pages) < _MOST_PAGES:
                    pages.append(await client.session.list_tools(params=_after(pages[-1])))
            except MCPError as exc:
                if exc.error.code == METHOD_NOT_FOUND:
                    return ()
                raise
        return [RemoteTool.of(tool, self.sessions, self._repeat) for page in pages for tool in page.tools]


def _after(page: ListToolsResult) -> PaginatedRequestParams:
    return PaginatedRequestParams(cursor=page.next_cursor)
