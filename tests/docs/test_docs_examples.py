"""The Python in README.md and docs/ is what it says: it compiles, declares its tools, and what can be run is run."""

import ast
import hashlib
import inspect
import re
import sys
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastmcp import FastMCP
from mcp.server.auth.settings import AuthSettings
from mcp_types import ResourceLink
from pydantic import BaseModel
from tenacity import wait_exponential, wait_random

from taskmill.server import Context, Retry, TaskConfig, TaskServer
from taskmill.testing import Eager, TestBed

DOCS = Path(__file__).parents[2] / "docs"
README = DOCS.parent / "README.md"
PAGES = sorted(page for page in [README, *DOCS.glob("*.md")] if "```python" in page.read_text())


class Size(BaseModel):
    size: str


def blocks(page: Path) -> list[str]:
    """The Python of a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def names_around() -> dict[str, Any]:
    """What a reader of any page knows: the usual imports, and a server."""
    auth: dict[str, Any] = {"issuer_url": "http://127.0.0.1:1", "resource_server_url": "http://127.0.0.1:2/mcp"}
    auth["validate_token_resource"] = True
    verifier = type("Verifier", (), {"verify_token": lambda self, token: None})()
    known = [asynccontextmanager, timedelta, ResourceLink, BaseModel, wait_exponential, wait_random]
    return {
        **{one.__name__: one for one in [*known, Context, Retry, TaskConfig, TaskServer]},
        "mcp": TaskServer("Docs"),
        "Report": dict[str, Any],
        "auth": AuthSettings.model_validate(auth),
        "verifier": verifier,
    }


def declared(code: str, name: str, **more: Any) -> dict[str, Any]:
    """What a block declares, once it has run."""
    names = {**names_around(), **more}
    exec(compile(code, name, "exec"), names)
    return names


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> TaskServer[Any]:
    """The `server` that the page on testing imports: the tools it tests."""
    mcp: TaskServer[Any] = TaskServer("Shop")

    @mcp.tool(task=True)
    async def order(item: str, ctx: Context[Any, Any]) -> str:
        await ctx.report_progress(1, 2, "asking")
        answer = await ctx.elicit("Which size?", Size)
        await ctx.report_progress(2, 2, "packing")
        return f"one {answer.data.size} {item}" if answer.action == "accept" else "nothing"

    @mcp.tool(task=True)
    async def report(month: str, ctx: Context[Any, Any]) -> str:
        await ctx.report_progress(0, None, "reading")
        await ctx.step("wait until that was seen", lambda: None)
        await ctx.report_progress(1, 2, "adding up")
        return "42 rows"

    module = ModuleType("server")
    module.mcp = mcp  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "server", module)
    return mcp


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_on_a_page_compiles_and_its_tools_are_accepted(page: Path, server: TaskServer[Any]) -> None:
    for number, block in enumerate(blocks(page), start=1):
        name = f"{page.name}, block {number}"
        code = compile(block, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if not code.co_flags & inspect.CO_COROUTINE:  # else it is the inside of a tool
            # The pages on FastMCP speak of a server of FastMCP's.
            theirs = {"mcp": FastMCP("Docs")} if page.stem.startswith("fastmcp") else {}
            exec(code, {**names_around(), **theirs})


async def test_the_server_of_the_readme_runs_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (block,) = blocks(README)
    names: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), names)  # no names around: a reader copies it into an empty file
    async with Eager(names["mcp"]) as eager:
        run = await eager.call("checksums", {"folder": str(tmp_path)})

    assert (run.result.structured_content, run.messages) == ({"a.txt": hashlib.sha256(b"a").hexdigest()}, ["a.txt"])


async def test_the_server_of_the_quickstart_counts() -> None:
    (block,) = blocks(DOCS / "quickstart.md")
    async with Eager(declared(block, "quickstart.md")["mcp"]) as eager:
        run = await eager.call("count", {"to": 1})

    assert (run.text, run.messages) == ("counted to 1", ["counted 1"])


async def test_the_tests_on_the_page_about_testing_pass(server: TaskServer[Any], redis_url: str) -> None:
    eager, whole = blocks(DOCS / "testing.md")
    await declared(eager, "testing.md, block 1")["test_an_order_is_confirmed"]()
    test = declared(whole, "testing.md, block 2")["test_the_report_says_how_far_it_is"]
    async with TestBed(server, redis_url=redis_url) as bed:
        await test(bed)
