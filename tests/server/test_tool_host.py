"""A server object that is no `TaskServer`: what commands, workers and the creation of tasks ask of it is `ToolHost`."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from anyio import AsyncFile
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp_types import CallToolRequestParams, CallToolResult, InputRequiredResult
from redis.asyncio import Redis
from starlette.applications import Starlette

from taskmill.cli.serving.ready_line import server_summary
from taskmill.engine.context import TaskContext
from taskmill.engine.outcome import Outcome, Returned
from taskmill.engine.policy import TaskConfig
from taskmill.engine.principal import LOCAL
from taskmill.engine.record import TaskView
from taskmill.server.context.detached_request import detached_request
from taskmill.server.protocol.results import error_result
from taskmill.server.settings import ServerSettings
from taskmill.server.tool_host import HostTool, ToolHost
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.server.tools.submission import Submission
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.tasks import TaskStore
from tests.support.replica import working

POLICIES = {"greet": TaskConfig(queue="words"), "count": TaskConfig()}


@dataclass(frozen=True)
class Named:
    """A task tool of which nothing is known but its name, version and policy."""

    name: str
    policy: TaskConfig
    version: str


class Greeters:
    """A host whose tool has versions, and is looked up when it is called."""

    name = "Greeters"
    has_auth = False
    import_path: str | None = None

    def __init__(self, settings: StoreSettings, runtime: ServerRuntime) -> None:
        self.store_settings: StoreSettings | None = settings
        self.lowlevel: Server[Any] = Server(self.name)
        self._runtime = runtime

    @property
    def store(self) -> TaskStore:
        return self._runtime.store

    def policies(self) -> Mapping[str, TaskConfig]:
        return POLICIES

    async def tool_names(self) -> Sequence[str]:
        return [*POLICIES, "now"]

    async def resolve(self, name: str, version: str | None = None) -> HostTool | None:
        return Named(name, POLICIES[name], version or "2") if name in POLICIES else None

    async def validate(
        self, tool: HostTool, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], *, resolves: bool
    ) -> Mapping[str, Any] | CallToolResult | InputRequiredResult:
        arguments = params.arguments or {}
        return arguments if "who" in arguments else error_result("Who?")

    def carried(self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any]) -> Mapping[str, Any]:
        return {"version": "2", "arguments": "of no effect: the call's own win"}

    def http_app(
        self,
        *,
        path: str = "/mcp",
        host: str = "127.0.0.1",
        allowed_hosts: Sequence[str] = (),
        cors_origins: Sequence[str] = (),
        operator_token: str | None = None,
    ) -> Starlette:
        raise NotImplementedError

    async def run_stdio_async(self, stdin: AsyncFile[str] | None = None, stdout: AsyncFile[str] | None = None) -> None:
        raise NotImplementedError

    @asynccontextmanager
    async def toolbox(self) -> AsyncIterator["Greeters"]:
        yield self

    def policy(self, tool: str) -> TaskConfig | None:
        return POLICIES.get(tool)

    async def run(self, tool: str, payload: Mapping[str, Any], context: TaskContext) -> Outcome:
        return Returned({"content": [], "said": f"{payload['version']}: {payload['arguments']['who']}"}, False)

    def failure_outcome(self, tool: str, error: BaseException, reference: str) -> Outcome:
        raise AssertionError("nothing fails here")


async def submitted(host: Greeters, runtime: ServerRuntime, arguments: dict[str, Any]) -> Any:
    """What a call of `count` is answered with."""
    submission = Submission(runtime, host)
    params = CallToolRequestParams(name="count", arguments=arguments)
    tool = await submission.resolve(params)
    assert tool is not None
    return await submission.submit(tool, params, detached_request("", None, client_info=None, capabilities=None))


async def test_its_toolbox_gets_what_it_gave_the_call_to_carry(redis: Redis, settings: ServerSettings) -> None:
    runtime = ServerRuntime()
    host = Greeters(settings, runtime)
    async with runtime.serving(settings) as store, working(host, settings):
        made = await submitted(host, runtime, {"who": "Ann"})
        assert isinstance(made, TaskView)
        view = made
        with anyio.fail_after(30):
            while not view.record.is_terminal:
                view = await store.read(made.record.id, LOCAL)
                await anyio.sleep(0.01)
    assert view.outcome == Returned({"content": [], "said": "2: Ann"}, False)


async def test_a_call_that_it_refuses_makes_no_task(redis: Redis, settings: ServerSettings) -> None:
    runtime = ServerRuntime()
    async with runtime.serving(settings):
        assert await submitted(Greeters(settings, runtime), runtime, {}) == error_result("Who?")
        assert await redis.keys("*record*") == []


async def test_commands_offer_what_it_names(settings: ServerSettings) -> None:
    host: ToolHost = Greeters(settings, ServerRuntime())
    assert await server_summary(host) == {
        "tools": ["greet", "count", "now"],
        "tasks": ["greet", "count"],
        "queues": ["default", "words"],
    }
