"""For a first reader: what a tool knows of its process and of who called it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from taskmill.engine.errors import ScopeMissing
from taskmill.engine.principal import ANONYMOUS
from taskmill.server import Context, TaskConfig, TaskServer
from taskmill.server.auth.scopes import require_scopes
from taskmill.testing import Eager


@asynccontextmanager
async def lifespan(_server: Any) -> AsyncIterator[dict[str, str]]:
    yield {"database": "open"}


mcp: TaskServer[Any] = TaskServer("Identity", lifespan=lifespan, visible_claims=["email"])


@mcp.tool(task=True)
async def who(ctx: Context[Any, Any]) -> dict[str, Any]:
    return {"state": ctx.lifespan, "principal": ctx.principal, "email": ctx.claims["email"]}


async def test_a_tool_has_the_state_of_its_process_and_the_claims_its_author_listed() -> None:
    async with Eager(mcp) as eager:
        run = await eager.call("who", claims={"email": "ann@example.com"})
    assert run.result.structured_content == {
        "state": {"database": "open"},
        "principal": ANONYMOUS,
        "email": "ann@example.com",
    }


def test_a_tool_that_needs_a_scope_is_closed_to_who_has_none() -> None:
    policy = TaskConfig(scopes=["rows:write"])
    require_scopes("delete_rows", policy, {"scopes": ["rows:write"]})
    with pytest.raises(ScopeMissing, match="delete_rows needs the scope rows:write"):
        require_scopes("delete_rows", policy, {"scopes": ["rows:read"]})
