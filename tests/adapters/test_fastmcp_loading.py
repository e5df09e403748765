"""How a command loads a file with a FastMCP server, and what it says of one that cannot be had."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastmcp import FastMCP
from fastmcp.server.auth import AuthContext

from taskmill.adapters.fastmcp import FastMCPHost, Tasks
from taskmill.cli.loading import load_server
from taskmill.engine.errors import ServerLoadError
from taskmill.testing import TestBed
from tests.adapters.fastmcp_auth import Verifier

BedOf = Callable[..., TestBed]
Write = Callable[[str], str]
TOOL = "\n\n@mcp.tool(task=True)\nasync def dig() -> str:\n    return 'dug'\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a server file; its path."""

    def written(text: str) -> str:
        path = tmp_path / f"server_{len(list(tmp_path.iterdir()))}.py"
        path.write_text(text)
        return str(path)

    return written


def test_a_server_is_found_by_its_usual_name_by_another_and_by_a_function(write: Write) -> None:
    path = write(f"from fastmcp import FastMCP\nmcp = FastMCP('One'){TOOL}\ndef make() -> FastMCP:\n    return mcp\n")
    for target in (path, f"{path}:mcp", f"{path}:make"):
        server = load_server(target)
        assert (server.name, list(server.policies()), server.import_path) == ("One", ["dig"], target)


def test_two_servers_without_a_usual_name_have_to_be_named(write: Write) -> None:
    path = write("from fastmcp import FastMCP\none = FastMCP('One')\ntwo = FastMCP('Two')\n")
    with pytest.raises(ServerLoadError, match=r"several servers: write .*:one or .*:two"):
        load_server(path)


@pytest.mark.parametrize("name", ["CurrentDocket", "CurrentWorker"])
def test_what_only_fastmcps_own_engine_has_is_refused_when_the_file_is_loaded(name: str, write: Write) -> None:
    path = write(
        f"from fastmcp import FastMCP\nfrom fastmcp_tasks.dependencies import {name}\nmcp = FastMCP('One')\n\n"
        f"@mcp.tool(task=True)\nasync def dig(engine: object = {name}()) -> str:\n    return ''\n"
    )
    with pytest.raises(ServerLoadError, match=rf"{name} belongs to FastMCP's own task engine.*CurrentTask\(\)"):
        load_server(path)


def test_fastmcps_own_extension_makes_way(write: Write) -> None:
    text = "from fastmcp import FastMCP\nfrom fastmcp_tasks import TasksExtension\nmcp = FastMCP('One')\n"
    server = load_server(write(f"{text}mcp.add_extension(TasksExtension(url='redis://nowhere')){TOOL}"))
    assert isinstance(server, FastMCPHost)
    assert isinstance(server.tasks, Tasks)


def test_a_policy_that_does_not_fit_names_the_tool(write: Write) -> None:
    path = write(
        "from fastmcp import FastMCP\nfrom taskmill.adapters.fastmcp import TaskConfig\nmcp = FastMCP('One')\n\n"
        "@mcp.tool(task=TaskConfig(idempotency='{order}'))\nasync def pay(amount: int) -> str:\n    return ''\n"
    )
    with pytest.raises(ServerLoadError, match=r"Tool 'pay'.*order"):
        load_server(path)


def test_the_framework_logs_in_the_form_of_the_command(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    load_server(write("from fastmcp import FastMCP\nmcp = FastMCP('One')\n"))
    logging.getLogger("fastmcp.server").warning("here")
    assert caplog.messages == ["here"]
    assert logging.getLogger("fastmcp").handlers == []


def test_commands_name_tools_that_only_some_callers_may_call() -> None:
    mcp: FastMCP[Any] = FastMCP("Guarded", auth=Verifier())

    def never(_context: AuthContext) -> bool:
        return False

    @mcp.tool(task=True, auth=never)
    async def hidden() -> str:
        return ""

    host = FastMCPHost(mcp)
    assert list(host.policies()) == asyncio.run(host.tool_names()) == ["hidden"]
    assert host.has_auth


async def test_a_foreign_host_or_origin_is_refused_before_anything_answers(bed_of: BedOf) -> None:
    mcp: FastMCP[Any] = FastMCP("One")
    async with bed_of(mcp) as bed, httpx2.AsyncClient() as http:
        host = await http.post(bed.url, json={}, headers={"host": "evil.example.com"})
        origin = await http.post(bed.url, json={}, headers={"origin": "https://evil.example.com"})
    assert (host.status_code, origin.status_code) == (421, 403)
