"""The server that is attacked: a tool for each way in which arguments are read, kept and given back."""

import asyncio
from typing import Any

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel
from pydantic_core import to_json

from taskmill.engine.policy import FROM_META
from taskmill.server import Context, TaskConfig, TaskServer
from taskmill.store.settings import StoreSettings

__all__ = ["CRASH", "RESULT", "make_server", "mcp"]

RESULT = "swordfish-result"
"""In every result and artifact: it may be in an answer, never in a log."""
CRASH = "swordfish-crash"
"""In every crash: it may be in a log, never in an answer."""
QUICK: dict[str, Any] = {"poll_interval": 0.05, "retention": 600, "retries": 0, "park_after": None}


class Person(BaseModel):
    name: str
    age: int = 1


def make_server(settings: StoreSettings | None = None, **options: Any) -> TaskServer[Any]:
    """A fresh one, as every replica and worker has its own."""
    server: TaskServer[Any] = TaskServer("Target", store=settings, visible_claims=["sub"], **options)
    _add_tools(server)
    _add_task_tools(server)
    _add_keyed_tools(server)

    @server.resource("note://{name}")
    def note(name: str) -> str:
        """A note."""
        return f"{RESULT} {len(name)}"

    @server.prompt()
    def poem(theme: str) -> str:
        """A poem."""
        return f"{RESULT} {len(theme)}"

    return server


def _add_tools(server: TaskServer[Any]) -> None:
    @server.tool()
    def hello(name: str) -> str:
        """Greets."""
        return f"{RESULT}, {name}!"

    @server.tool()
    async def ask_now(ctx: Context[Any, Any]) -> str:
        """Asks its user in mid-call."""
        answer = await ctx.elicit("Who?", Person)
        return f"{RESULT} {answer.action}"


def _add_task_tools(server: TaskServer[Any]) -> None:
    @server.tool(task=TaskConfig(**QUICK))
    async def echo(value: Any, ctx: Context[Any, Any], count: int = 0) -> dict[str, Any]:
        """Reports progress, emits, attaches, and gives back what it was given."""
        for step in range(min(count, 3)):
            await ctx.report_progress(step + 1, count, f"step {step}")
        if count == 1:
            await ctx.emit(f"{RESULT} {value!r}")
            await ctx.attach(_bytes(), name="told.txt")
        return {"told": RESULT, "value": value if _can_be_written(value) else None}

    @server.tool(task=TaskConfig(**QUICK))
    async def ask(ctx: Context[Any, Any]) -> str:
        """Asks for a person."""
        answer = await ctx.elicit("Who?", Person)
        return f"{RESULT} {answer.data.name}" if answer.action == "accept" else answer.action

    @server.tool(task=TaskConfig(**QUICK))
    async def stay(ctx: Context[Any, Any]) -> str:
        """Says one thing and stays until it is cancelled."""
        await ctx.report_progress(1, 4, "settling in")
        await asyncio.Event().wait()
        return RESULT

    @server.tool(task=TaskConfig(**QUICK))
    async def stumble(how: str) -> str:
        """Fails as a tool, or crashes."""
        if how == "tool":
            raise ToolError(f"{RESULT}: no")
        raise RuntimeError(CRASH)

    @server.tool(task=TaskConfig(mode="required", scopes=["rows:write"], **QUICK))
    async def guarded(table: str) -> str:
        """Needs a scope, and runs only as a task."""
        return f"{RESULT} {table}"


def _add_keyed_tools(server: TaskServer[Any]) -> None:
    @server.tool(task=TaskConfig(idempotency=FROM_META, **QUICK))
    async def once(text: str = "") -> str:
        """The same call for the same key of the client's."""
        return f"{RESULT} {text}"

    @server.tool(task=TaskConfig(idempotency=["path", "more"], concurrency_key="path:{path}:{principal}", **QUICK))
    async def keyed(path: str, more: Any = None, number: float = 0.0) -> str:
        """Keys made of its arguments."""
        return f"{RESULT} {path} {number}"


def _can_be_written(value: Any) -> bool:
    """What is nested some hundreds deep cannot be a result, and a tool that returns it has crashed, as the log says."""
    try:
        to_json(value)
    except ValueError:
        return False
    return True


async def _bytes() -> Any:
    yield RESULT.encode()


mcp = make_server()
