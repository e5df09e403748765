"""Providers of task tools: files with reload, skills, proxies of other servers, OpenAPI documents and FastAPI."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request
from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError

from taskmill.adapters.fastmcp import TaskConfig, Tasks
from taskmill.testing import ClientKind, TestBed
from tests.adapters.fastmcp_auth import ANN, Verifier
from tests.adapters.fastmcp_howto import blocks, declared, in_foreground, in_halves, run, serving_aside
from tests.support.redis_server import free_port
from tests.support.replica import Rpc, serving
from tests.support.waiting import eventually_async

BedOf = Callable[..., TestBed]
Server = FastMCP[Any]
FILES = "Files of tools"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of tools of the page, in the present directory."""
    (tmp_path / "tools").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tools" / "dig.py").write_text(dig())
    return tmp_path / "tools"


def files() -> Server:
    """The server of the page."""
    mcp: Server = run(blocks(FILES)[0], FILES)["mcp"]
    return mcp


def dig(**changes: str) -> str:
    """The file of the page."""
    code = blocks(FILES)[1]
    for old, new in changes.items():
        code = code.replace(old, new)
    return code


async def test_a_tool_of_a_folder_is_a_task_tool(folder: Path, bed_of: BedOf) -> None:
    async with bed_of(files()) as bed:
        halves = await in_halves(bed, [], "dig", depth=3)
    (folder / "dig.py").write_text(dig().replace("task=True", "task=False"))
    assert halves.result == await in_foreground(files(), "dig", depth=3)
    assert halves.result["content"][0]["text"] == "3 m deep"


async def test_a_file_that_comes_or_changes_while_the_server_runs_is_run_as_it_is(folder: Path, bed_of: BedOf) -> None:
    async with bed_of(files()) as bed, httpx2.AsyncClient(timeout=30) as http:
        (folder / "fill.py").write_text(dig(dig="fill", deep="full"))
        assert (await in_halves(bed, [], "fill", depth=3)).result["content"][0]["text"] == "3 m full"
        await bed.stop_worker()
        rpc = Rpc(http, bed.url)
        task_id = await rpc.task("dig", depth=3)
        (folder / "dig.py").write_text(dig(deep="deep and dry"))
        await bed.start_worker()
        await bed.until(task_id, within=30)
        task = (await rpc.get(task_id))["result"]
    assert task["result"]["content"][0]["text"] == "3 m deep and dry"


async def test_a_task_reads_a_skill_in_the_worker(bed_of: BedOf) -> None:
    async with bed_of(declared("Skills")["mcp"]) as bed, httpx2.AsyncClient(timeout=30) as http:
        halves = await in_halves(bed, [], "follow", skill="review")
        read = await Rpc(http, bed.url).ask(
            "resources/read", {"uri": "skill://review/SKILL.md"}, name="skill://review/SKILL.md"
        )
    assert halves.result == await in_foreground(declared("Skills", tasks=False)["mcp"], "follow", skill="review")
    assert halves.result["content"][0]["text"] == "Read the tests first."
    assert "Read the tests first." in read["result"]["contents"][0]["text"]


def remote(log: list[str]) -> Server:
    """A server of someone else's."""
    mcp: Server = FastMCP("Remote")

    @mcp.tool
    async def far(n: int, ctx: Context) -> int:
        log.append(f"far {n}")
        await ctx.report_progress(n, 2 * n, "far away")
        return n + 1

    @mcp.tool
    async def colour(ctx: Context) -> str:
        answer = await ctx.elicit("Which colour?", response_type=str)
        return f"{answer.action} {getattr(answer, 'data', None)}"

    @mcp.tool
    async def refuse() -> str:
        raise ToolError("the far shelf is locked")

    return mcp


def gateway(address: str, *, tasks: bool = True) -> Server:
    """The server of the page, in front of the other one at this address."""
    mcp: Server = declared("Proxies", tasks=tasks, swap={"http://127.0.0.1:9001": address})["mcp"]
    return mcp


async def test_a_proxied_tool_calls_the_other_server_from_the_worker(bed_of: BedOf) -> None:
    log: list[str] = []
    with serving_aside(remote(log).http_app()) as address:
        async with bed_of(gateway(address)) as bed:
            halves = await in_halves(bed, log, "remote_far", n=2)
            refused = await in_halves(bed, [], "remote_refuse")
            (_, far) = await bed.task_ids()
            progress = (await bed.task(far)).record.progress
        alone = await in_foreground(gateway(address, tasks=False), "remote_far", n=2)
        alone_refused = await in_foreground(gateway(address, tasks=False), "remote_refuse")
    assert (halves.at_call, halves.in_worker) == ([], ["far 2"])
    assert (halves.result, refused.result) == (alone, alone_refused)
    assert (progress.done, progress.total) == (2, 4)


async def test_a_bed_in_the_loop_that_serves_the_other_server_does_not_wait_for_itself(bed_of: BedOf) -> None:
    """As a test of an author's has both: the tools of the proxy are first asked for when the loop can answer."""
    async with (
        serving(remote([]).http_app()) as address,
        bed_of(gateway(address)) as bed,
        bed.client(ClientKind.TASKS_2026) as client,
    ):
        record = await client.call("remote_far", n=2)

    assert record.result is not None
    assert record.result.structured_content == {"result": 3}


async def test_a_task_waits_while_the_other_server_is_away_from_a_worker_that_starts(bed_of: BedOf) -> None:
    port = free_port()
    with ExitStack() as stack:
        mcp = gateway(stack.enter_context(serving_aside(remote([]).http_app(), port)))
        async with bed_of(mcp) as bed, httpx2.AsyncClient(timeout=30) as http:
            rpc = Rpc(http, bed.url)
            await bed.stop_worker()
            task_id = await rpc.task("remote_far", n=2)
            stack.close()
            await bed.start_worker()
            await eventually_async(
                lambda: rpc.get(task_id), lambda reply: "has this tool" in reply["result"]["statusMessage"], within=30
            )
            with serving_aside(remote([]).http_app(), port):
                await bed.until(task_id, within=30)
                task = (await rpc.get(task_id))["result"]
    assert task["result"]["content"][0]["text"] == "3"


@pytest.mark.parametrize("kind", ClientKind)
async def test_a_question_of_a_proxied_tool_reaches_the_client(kind: ClientKind, bed_of: BedOf) -> None:
    red = {"action": "accept", "content": {"value": "red"}}
    with serving_aside(remote([]).http_app()) as address:
        async with bed_of(gateway(address)) as bed, bed.client(kind, answers=[red]) as client:
            assert (await client.call("remote_colour")).text == "accept red"


async def test_a_route_of_fastapi_is_called_from_the_worker(bed_of: BedOf) -> None:
    names = declared("OpenAPI and FastAPI")
    log: list[str] = []

    @names["api"].middleware("http")
    async def note(request: Request, call_next: Any) -> Any:
        log.append(f"{request.method} {request.url.path}")
        return await call_next(request)

    async with bed_of(names["mcp"]) as bed:
        halves = await in_halves(bed, log, "make_report", year=2025, pages=3)
        async with bed.client() as client:
            wrong = await client.call("make_report", year="soon")
            listed = await client.call("list_reports")
    alone = declared("OpenAPI and FastAPI", tasks=False)["mcp"]
    assert (halves.at_call, halves.in_worker) == ([], ["POST /reports/2025"])
    assert halves.result == await in_foreground(alone, "make_report", year=2025, pages=3)
    assert halves.result["structured_content"] == {"year": 2025, "pages": 3}
    assert wrong.task_id is None
    assert wrong.text.startswith("Error executing tool make_report: year should be an integer, not 'soon'. It takes:")
    assert listed.task_id is None
    assert listed.result is not None
    assert listed.result.structured_content == {"result": [2025]}


async def test_a_route_gets_the_headers_of_the_caller_from_the_worker_without_credentials(bed_of: BedOf) -> None:
    api = FastAPI()

    @api.get("/headers", operation_id="headers")
    async def headers(request: Request) -> dict[str, bool]:
        return {"agent": "python" in request.headers["user-agent"], "token": ANN in str(request.headers.raw)}

    def made() -> Server:
        return FastMCP.from_fastapi(api, auth=Verifier())

    mcp = made()
    mcp.add_extension(Tasks(also={"headers": TaskConfig()}))
    async with bed_of(mcp) as bed:
        halves = await in_halves(bed, [], "headers", token=ANN)
    assert halves.result == await in_foreground(made(), "headers", token=ANN)
    assert halves.result["structured_content"]["token"] is False


async def test_a_tool_of_an_openapi_document_is_called_from_the_worker(bed_of: BedOf) -> None:
    api = declared("OpenAPI and FastAPI")["api"]
    async with serving(api) as address:

        def made() -> Server:
            return FastMCP.from_openapi(api.openapi(), httpx2.AsyncClient(base_url=address), name="Elsewhere")

        mcp = made()
        mcp.add_extension(Tasks(also={"make_*": TaskConfig()}))
        async with bed_of(mcp) as bed:
            halves = await in_halves(bed, [], "make_report", year=2025)
        assert halves.result == await in_foreground(made(), "make_report", year=2025)
    assert halves.result["structured_content"] == {"year": 2025, "pages": 1}


async def test_an_api_that_is_away_is_tried_again_by_the_task(bed_of: BedOf) -> None:
    answers = [503, 200]

    async def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(answers.pop(0), json={"year": 2025, "pages": 1})

    document = declared("OpenAPI and FastAPI")["api"].openapi()
    client = httpx2.AsyncClient(base_url="http://elsewhere.invalid", transport=httpx2.MockTransport(answer))
    mcp: Server = FastMCP.from_openapi(document, client)
    mcp.add_extension(Tasks(also={"make_*": TaskConfig(retries=1, backoff=0)}))
    async with bed_of(mcp) as bed:
        halves = await in_halves(bed, [], "make_report", year=2025)
        (task_id,) = await bed.task_ids()
        attempt = (await bed.task(task_id)).record.attempt
    assert halves.result["structured_content"] == {"year": 2025, "pages": 1}
    assert attempt == 2
