"""`FastMCPHost`: a FastMCP server as commands, workers and tests take a server object (`server/tool_host.py`)."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import fastmcp
from anyio import AsyncFile
from fastmcp import FastMCP
from fastmcp.server.context import reset_transport, set_transport
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp_types import CallToolRequestParams, CallToolResult, InputRequiredResult

from taskmill.adapters.fastmcp.caller import as_operator
from taskmill.adapters.fastmcp.extension import Tasks, for_worker
from taskmill.adapters.fastmcp.fastmcp_private import (
    lifespan_of,
    load_state_store,
    lowlevel_of,
    replace_tasks_extension,
    tasks_extension_of,
)
from taskmill.adapters.fastmcp.http_app import authenticate_by_settings
from taskmill.adapters.fastmcp.toolbox import FastMCPToolbox
from taskmill.adapters.fastmcp.tools import FastMCPTaskTool
from taskmill.adapters.fastmcp.worker_process import prepare_process
from taskmill.engine.policy import TaskConfig
from taskmill.server.handlers.follow_up_tools import FOLLOW_UP_TOOLS
from taskmill.server.http.application import HttpApp
from taskmill.server.http.cors import check_any_origin
from taskmill.server.http.transport_security import origins_of, transport_security
from taskmill.server.sampling.own_model import OwnModel
from taskmill.server.sessions.stdio_connection import serve_streams
from taskmill.server.settings import server_settings
from taskmill.server.tool_host import HostTool
from taskmill.server.tools.import_path import import_path_of
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["FastMCPHost", "in_event_loop"]


class FastMCPHost:
    """A FastMCP server that Taskmill serves and works for. See `ToolHost` for each method."""

    def __init__(self, server: FastMCP[Any]) -> None:
        """A server without `Tasks` gets it; FastMCP's own extension of that kind makes way.

        Raises:
            PolicyError: a policy does not fit its tool.
            DuplicateTool: a tool has the name of a follow-up tool.
            Both, in a running event loop, not here but by `collect` or when the server starts.
        """
        self.server = server
        found = tasks_extension_of(server)
        if isinstance(found, Tasks):
            self.tasks = found
        else:
            self.tasks = Tasks()
            replace_tasks_extension(server, self.tasks)
        self._import_path: str | None = None
        # Not while a loop waits for it: what a proxy of the server asks for may be served by that very loop.
        if not in_event_loop():
            asyncio.run(self.tasks.collect())

    async def collect(self) -> None:
        """Learn which tools there are, where that could not be done when this was made.

        Raises:
            PolicyError, DuplicateTool: as above.
        """
        await self.tasks.collect()

    @property
    def name(self) -> str:
        """See `ToolHost`."""
        return self.server.name

    @property
    def own_model(self) -> OwnModel:
        """The model that its tools ask where a client has none."""
        return self.tasks.own_model

    @property
    def needs_store(self) -> bool:
        """See `ToolHost`: its tools come and go."""
        return True

    @property
    def has_auth(self) -> bool:
        """See `ToolHost`."""
        return self.server.auth is not None or server_settings(self.store_settings).auth_issuer is not None

    def auth_doubts(self) -> list[str]:
        """See `VerifiesTokens`: what a verifier of FastMCP's leaves open when it is made without it."""
        verifier = getattr(self.server.auth, "token_verifier", self.server.auth)
        words = {
            "audience": "the verifier has no audience: tokens for other services are accepted",
            "issuer": "the verifier has no issuer: tokens of every issuer with that key are accepted",
        }
        return [found for name, found in words.items() if getattr(verifier, name, name) is None]

    @property
    def lowlevel(self) -> Server[Any]:
        """See `ToolHost`."""
        return lowlevel_of(self.server)

    @property
    def store(self) -> TaskStore:
        """See `ToolHost`."""
        return self.tasks.runtime.store

    @property
    def store_settings(self) -> StoreSettings | None:
        """See `ToolHost`."""
        return self.tasks.store_settings

    @store_settings.setter
    def store_settings(self, value: StoreSettings | None) -> None:
        self.tasks.store_settings = value

    @property
    def import_path(self) -> str | None:
        """See `ToolHost`."""
        return self._import_path or import_path_of(self.server)

    @import_path.setter
    def import_path(self, value: str | None) -> None:
        self._import_path = value

    def policies(self) -> Mapping[str, TaskConfig]:
        """See `ToolHost`."""
        return self.tasks.tools.policies()

    async def tool_names(self) -> list[str]:
        """See `ToolHost`."""
        with as_operator():
            listed = await self.server.list_tools(run_middleware=False)
        return list(dict.fromkeys(tool.name for tool in listed if tool.name not in FOLLOW_UP_TOOLS))

    async def resolve(self, name: str, version: str | None = None) -> FastMCPTaskTool | None:
        """See `CallHost`."""
        return await self.tasks.tools.resolve(name, version)

    async def validate(
        self, tool: HostTool, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], *, resolves: bool
    ) -> Mapping[str, Any] | CallToolResult | InputRequiredResult:
        """See `CallHost`."""
        return await self.tasks.tools.validate(tool, params, ctx, resolves=resolves)

    def carried(self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any]) -> Mapping[str, Any]:
        """See `CallHost`."""
        return self.tasks.tools.carried(params, ctx)

    def http_app(
        self,
        *,
        path: str = "/mcp",
        host: str = "127.0.0.1",
        allowed_hosts: Sequence[str] = (),
        cors_origins: Sequence[str] = (),
        operator_token: str | None = None,
    ) -> HttpApp:
        """See `ToolHost`. Host and Origin are checked by Taskmill, in FastMCP's place, so that one list allows."""
        origins = origins_of(cors_origins)
        settings = server_settings(self.store_settings)
        authenticate_by_settings(self.server, settings)
        check_any_origin(origins, has_auth=self.has_auth)
        return self.tasks.with_tasks(
            self.tasks.plain_http_app(path=path, stateless_http=False, host_origin_protection=False),
            path=path,
            hosts=transport_security(host, allowed_hosts, origins),
            cors_origins=origins,
            server_settings=settings,
            operator_token=operator_token,
            json_only=fastmcp.settings.json_response,
        )

    async def run_stdio_async(self, stdin: AsyncFile[str] | None = None, stdout: AsyncFile[str] | None = None) -> None:
        """See `ToolHost`."""
        token = set_transport("stdio")
        try:
            async with stdio_server(stdin, stdout) as (reading, writing):
                await serve_streams(self.lowlevel, reading, writing)
        finally:
            reset_transport(token)

    @asynccontextmanager
    async def toolbox(self) -> AsyncIterator[FastMCPToolbox]:
        """See `ToolSource`."""
        prepare_process()
        self.tasks.own_model.check_at_start()
        lifespan = lifespan_of(self.server)
        token = for_worker.set(True)
        try:
            await lifespan.__aenter__()
        finally:
            for_worker.reset(token)
        try:
            load_state_store(self.server)
            await self.tasks.collect()
            yield FastMCPToolbox(self.server, self.tasks.tools)
        finally:
            await lifespan.__aexit__(None, None, None)


def in_event_loop() -> bool:
    """Whether a loop runs here."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
