"""Servers that are not ours: files on the official SDK that know nothing of Taskmill, run as processes of their own."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.redis_server import free_port
from tests.support.waiting import eventually

__all__ = ["FOREIGN", "foreign_words", "served"]

FOREIGN = '''
"""A server of someone else's."""

import asyncio
import os
import sys
from pathlib import Path

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import CallToolResult, TextContent, ToolAnnotations

mcp = MCPServer("Foreign", instructions="Be kind to it.")
FOLDER = Path(os.environ["TEST_FOLDER"])


@mcp.tool()
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@mcp.tool()
async def refuse() -> CallToolResult:
    """Answer with an error."""
    return CallToolResult(content=[TextContent(type="text", text="the shelf is locked")], is_error=True)


async def work(name: str, ctx: Context) -> str:
    calls = FOLDER / f"{name}.calls"
    with calls.open("a") as file:
        file.write(f"{os.getpid()}\\n")
    await ctx.report_progress(1, 2, "half of it")
    await ctx.info(f"{name} is on the shelf")
    while not (FOLDER / f"{name}.gate").exists():
        await asyncio.sleep(0.02)
    return f"{name} is done"


@mcp.tool()
async def write(name: str, ctx: Context) -> str:
    """Wait for a file; calls are counted in another one."""
    return await work(name, ctx)


@mcp.tool(annotations=ToolAnnotations(read_only_hint=True))
async def read(name: str, ctx: Context) -> str:
    """The same, and says that it changes nothing."""
    return await work(name, ctx)


@mcp.tool()
async def change(ctx: Context) -> str:
    """Have other tools from now on."""
    mcp.add_tool(newcomer)
    mcp.remove_tool("add")
    return "changed"


async def newcomer() -> str:
    """Come later."""
    return "I am new"


@mcp.tool()
def authorization(ctx: Context) -> str:
    """As whom it is asked."""
    request = ctx.request_context.request
    return request.headers.get("authorization", "no one") if request else "no one"


@mcp.tool()
def pid() -> int:
    """The process."""
    return os.getpid()


@mcp.resource("note://one", title="The first", mime_type="text/markdown", meta={"shelf": 3})
def one() -> str:
    """A note."""
    return "the first note"


@mcp.resource("note://of/{name}")
def note_of(name: str) -> str:
    """A note of somebody."""
    return f"a note of {name}"


@mcp.prompt(title="A greeting")
def greet(name: str) -> str:
    """Greet someone."""
    return f"Say hello to {name}"


@mcp.completion()
async def complete(ref, argument, context):
    from mcp_types import Completion

    return Completion(values=[f"{argument.value}{letter}" for letter in "abc"])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        mcp.run("streamable-http", port=int(sys.argv[1]))
    else:
        mcp.run()
'''


def foreign_words(folder: Path, code: str = FOREIGN) -> list[str]:
    """The command of the server, whose file is written into the folder."""
    file = folder / "foreign.py"
    file.write_text(code, encoding="utf-8")
    return [sys.executable, str(file)]


@contextlib.contextmanager
def served(words: list[str], folder: Path, port: int | None = None) -> Iterator[str]:
    """The same server over HTTP; its address."""
    port = free_port() if port is None else port
    environment = os.environ | {"TEST_FOLDER": str(folder)}
    with (folder / "foreign.log").open("ab") as log:
        process = subprocess.Popen([*words, str(port)], env=environment, stdout=log, stderr=log, cwd=folder)
    try:
        eventually(lambda: is_listening(port))
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait()


def is_listening(port: int) -> bool:
    import socket

    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
