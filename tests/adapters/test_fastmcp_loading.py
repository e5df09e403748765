"""How a command loads a file with a FastMCP server, and what it says of one that cannot be had."""

import asyncio
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import httpx2
import pytest
from fastmcp import FastMCP
from fastmcp.dependencies import Dependency, Depends
from fastmcp.server.auth import AuthContext

from taskmill.adapters.fastmcp import FastMCPHost, Tasks
from taskmill.cli.loading import load_server
from taskmill.engine.errors import PolicyError, ServerLoadError
from taskmill.testing import TestBed
from tests.adapters.fastmcp_auth import Verifier
from tests.support.command_line import CommandLine

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


DOCKET = {
    "ConcurrencyLimit(1)": "concurrency_limit=1",
    "Cooldown(timedelta(1))": "idempotency=",
    "Cron('* * * * *')": "taskmill call",
    "CurrentDocket()": r"CurrentTask\(\)",
    "CurrentExecution()": r"CurrentTask\(\)",
    "CurrentWorker()": r"CurrentTask\(\)",
    "Debounce(timedelta(1))": "idempotency=",
    "ExponentialRetry(attempts=3)": "retries=3, backoff=2",
    "Perpetual()": "taskmill call",
    "Progress()": "from fastmcp.dependencies import Progress",
    "RateLimit(1, per=timedelta(1))": "rate_limit=",
    "Retry(attempts=3)": "retries=3",
    "Retry.forever()": "retries=3",
    "TaskKey()": r"CurrentTask\(\)",
    "TaskLogger()": "logging.getLogger",
    "Timeout(timedelta(1))": "timeout=60",
}
"""A dependency of Docket's -> what its refusal says to write."""


@pytest.mark.parametrize("written", DOCKET)
def test_what_only_fastmcps_own_engine_has_is_refused_when_the_file_is_loaded(written: str, write: Write) -> None:
    name = re.split(r"\W", written)[0]
    path = write(
        f"from datetime import timedelta\nfrom docket import {name}\nfrom fastmcp import FastMCP\n"
        "mcp = FastMCP('One')\n\n"
        f"@mcp.tool(task=True)\nasync def dig(engine: {name} = {written}) -> str:\n    return ''\n"
    )
    with pytest.raises(ServerLoadError, match=rf"{name} belongs to FastMCP's own task engine.*{DOCKET[written]}"):
        load_server(path)


@pytest.mark.parametrize("name", ["CurrentDocket", "CurrentWorker"])
def test_so_is_what_fastmcps_package_for_tasks_has_of_it(name: str, write: Write) -> None:
    path = write(
        f"from fastmcp import FastMCP\nfrom fastmcp_tasks.dependencies import {name}\nmcp = FastMCP('One')\n\n"
        f"@mcp.tool(task=True)\nasync def dig(engine: object = {name}()) -> str:\n    return ''\n"
    )
    with pytest.raises(ServerLoadError, match=rf"{name} belongs to FastMCP's own task engine.*CurrentTask\(\)"):
        load_server(path)


class Retry(Dependency[Any]):
    """Docket's, as it is where it is installed."""

    __module__ = "docket.dependencies._retry"

    async def __aenter__(self) -> Any:
        raise LookupError


class Patient(Retry):
    """An author's own."""


def retried(retry: Any = Retry()) -> Any:  # noqa: B008 - Docket's way
    return retry


async def by_default(retry: Any = Patient()) -> None:  # noqa: B008
    pass


async def by_annotation(retry: Annotated[int, Retry()]) -> None:
    pass


async def by_dependency(retry: Any = Depends(retried)) -> None:  # noqa: B008
    pass


@pytest.mark.parametrize("tool", [by_default, by_annotation, by_dependency])
@pytest.mark.parametrize("is_mounted", [False, True], ids=["own", "mounted"])
def test_an_installed_docket_is_refused_as_one_that_is_not(tool: Callable[..., Any], *, is_mounted: bool) -> None:
    mcp: FastMCP[Any] = FastMCP("One")
    mcp.tool(task=True)(tool)
    if is_mounted:
        outer: FastMCP[Any] = FastMCP("Outer")
        outer.mount(mcp, namespace="inner")
        mcp = outer
    with pytest.raises(PolicyError, match=rf"{tool.__name__}.*Retry belongs to FastMCP's own task engine.*retries=3"):
        FastMCPHost(mcp)


def test_what_docket_only_passes_on_works(write: Write) -> None:
    text = (
        "from typing import Annotated\nfrom docket import CallArgument, Depends, Docket, Logged, Shared\n"
        "from fastmcp import FastMCP\nmcp = FastMCP('One')\n\ndef twice(n: int = CallArgument()) -> int:\n"
        "    return 2 * n\n\n@mcp.tool(task=True)\n"
        "async def dig(n: Annotated[int, Logged()], m: int = Depends(twice)) -> int:\n    return m\n"
    )
    assert list(load_server(write(text)).policies()) == ["dig"]


@pytest.mark.parametrize(
    "start",
    [
        "mcp.run()",
        "mcp.run(transport='http', port=0)",
        "asyncio.run(mcp.run_async())",
        "asyncio.run(mcp.run_stdio_async())",
        "asyncio.run(mcp.run_http_async(port=0))",
    ],
)
def test_a_file_that_starts_its_server_without_a_guard_is_loaded_to_its_end(start: str, write: Write) -> None:
    path = write(f"import asyncio\nfrom fastmcp import FastMCP\nmcp = FastMCP('One'){TOOL}\n{start}\n\nmcp2 = None\n")
    assert list(load_server(path).policies()) == ["dig"]


@pytest.mark.slow
def test_a_command_takes_a_file_that_starts_its_server_without_a_guard(cli: CommandLine) -> None:
    cli.write("server.py", f"from fastmcp import FastMCP\nmcp = FastMCP('One'){TOOL}\nmcp.run()\n")
    done = cli.run("call", "server.py", "dig")
    assert done.stdout == "dug\n", done.stderr


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
    with pytest.raises(ServerLoadError, match=r"server_0\.py:mcp: Tool 'pay'.*order"):
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
