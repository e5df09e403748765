"""What one server behind Taskmill offers: its tools, resources, templates and prompts, as it lists them.

Lists are asked for again when the server reports a change, and after a short time without one.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic

from fastmcp.server.providers.proxy import ProxyProvider
from fastmcp.tools.base import Tool
from mcp.shared.exceptions import MCPError
from mcp_types import METHOD_NOT_FOUND, ListToolsResult, PaginatedRequestParams

from taskmill.adapters.remote.sessions import UpstreamSessions
from taskmill.adapters.remote.target import Upstream
from taskmill.adapters.remote.tools import RemoteTool

__all__ = ["RemoteProvider"]

_FRESH = 30.0
"""Seconds after which the tools are asked for again."""
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
        super().__init__(self.sessions.client, cache_ttl=_FRESH)

    @property
    def label(self) -> str:
        """What the server is called."""
        return self.sessions.upstream.label

    def forget(self) -> None:
        """The server has reported that its lists have changed."""
        self._listed_at = None

    async def load(self) -> None:
        """Learn its tools, and disconnect: for a process that has no event loop yet.

        Raises:
            UpstreamUnreachable, MCPError: it cannot be asked.
        """
        try:
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
