"""`TASKMILL_TOOL_TIMEOUT`: how long tools may run that name no timeout."""

import asyncio
from typing import Any

import pytest
from fastmcp.utilities.tasks import TaskConfig as FastMCPTaskConfig
from redis.asyncio import Redis

from taskmill.adapters.fastmcp import TaskConfig as FastMCPConfig
from taskmill.adapters.fastmcp.config import policy_of
from taskmill.engine.policy import TaskConfig
from taskmill.server import TaskServer
from taskmill.server.settings import ServerSettings
from tests.support.replica import client_of, working


def server_of(settings: ServerSettings) -> TaskServer[Any]:
    mcp = TaskServer("timed", store=settings)

    @mcp.tool(task=TaskConfig(poll_interval=0.1))
    async def endless() -> str:
        await asyncio.Event().wait()
        return "never"

    @mcp.tool(task=TaskConfig(timeout=None))
    async def unlimited() -> str:
        await asyncio.Event().wait()
        return "never"

    return mcp


async def test_a_tool_without_a_timeout_gets_the_workers_and_one_with_none_has_none(
    redis: Redis, settings: ServerSettings
) -> None:
    mcp = server_of(settings)
    async with client_of(mcp) as rpc, working(server_of(settings), settings, tool_timeout=0.2):
        unlimited, endless = await rpc.task("unlimited"), await rpc.task("endless")
        ended = await rpc.done(endless)
        assert ended["error"]["message"] == "endless ran longer than its limit of 0.2 s."
        assert ended["error"]["data"]["reason"] == "timeout"
        assert (await rpc.get(unlimited))["result"]["status"] == "working"


@pytest.mark.parametrize(
    "config", [FastMCPTaskConfig(mode="optional"), FastMCPConfig(retries=1)], ids=["FastMCP's own", "with our fields"]
)
def test_tools_of_fastmcp_that_name_no_timeout_have_the_default_one(config: FastMCPTaskConfig) -> None:
    policy = policy_of(config)
    assert policy is not None
    assert (policy.run_limit, policy.timed_by(3).run_limit) == (None, TaskConfig(timeout=3).run_limit)
    assert policy.timed_by(0) is policy
    assert TaskConfig(timeout=None).timed_by(3).run_limit is None
