"""Pages in a real browser that speak with the server directly: the Inspector's, and official clients.

Chromium is driven by `driver.py`. The pages come from one origin, which `taskmill run --cors-origin` allows; opened
under another name of the same address they must be refused. Inspector 1.x is the last with a direct connection: the
pages of 2.x speak with a server of their own.
"""

import asyncio
import json
import subprocess
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tests.hosts.installation import HOME, PACKAGES, ROOT, CannotInstall, install, node, version_in
from tests.hosts.run import Run, listening, served
from tests.hosts.scenarios import Verdict
from tests.hosts.servers import SERVERS
from tests.hosts.table import Row
from tests.support.system_programs import find_program

__all__ = ["PARTS", "BrowserPrograms", "chromium", "row_of", "run_browser"]

_HERE = Path(__file__).parent
_BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_MODULES = ROOT / "tests" / "node_modules"
_CLIENTS = {"sdk": "@modelcontextprotocol/client", "ext-tasks": "@modelcontextprotocol/ext-tasks"}
"""The official packages, by how the names of their parts begin."""


class BrowserPrograms:
    """What a run in a browser takes."""

    def __init__(self) -> None:
        """Install what is missing.

        Raises:
            CannotInstall: a part cannot be had on this machine.
        """
        self.chromium = chromium()
        install("inspector-page")
        node()  # It brings the official clients.
        self.python = install("playwright")[0]
        self.inspector = HOME / "inspector-page" / "node_modules" / PACKAGES["inspector-page"].name / "dist"


def chromium() -> str:
    """The browser's program, installed where a machine builds.

    Raises:
        CannotInstall: there is none.
    """
    if found := find_program(_BROWSERS, _BROWSERS[0]):
        return found
    raise CannotInstall(f"no browser is on PATH. Debian: apt-get install {_BROWSERS[0]}; other systems: Chromium.")


def parts(page: str, other_page: str, server: str, seconds: int) -> list[dict[str, Any]]:
    """What the browser does: each part with the name of its row, and what it must show."""
    call = {"kind": "inspector_call", "page": page, "seconds": seconds, "wanted": f"{seconds * 7} jars"}
    found: list[dict[str, Any]] = [
        call | {"name": "inspector-plain", "as_task": False},
        call | {"name": "inspector-task", "as_task": True},
        {"name": "inspector-question", "kind": "inspector_question", "page": page},
        {"name": "inspector-other-origin", "kind": "inspector_refused", "page": other_page},
    ]
    arguments = json.dumps({"seconds": seconds})
    for era in ("legacy", "modern"):
        plain = [server, era, "survey", arguments]
        task = [server, era, "settle", "survey", arguments]
        for name, program, words in (
            ("sdk", "/plain_client.mjs", plain),
            ("ext-tasks", "/clients/ext_tasks_client.mjs", task),
        ):
            run = {"program": program, "words": words}
            found.append({"name": f"{name}-{era}", "kind": "program", "page": page, "run": run})
    return found


PARTS: Sequence[str] = tuple(part["name"] for part in parts("", "", "", 1))


async def run_browser(programs: BrowserPrograms, seconds: int, folder: Path) -> list[Row]:
    """Run every part once; what was sent and written is kept in `folder`."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    async with listening(_pages(programs)) as address:
        port = address.rpartition(":")[2]
        page, other_page = f"http://localhost:{port}", f"http://127.0.0.1:{port}"
        async with served(folder, SERVERS["taskmill"], "--cors-origin", page) as base:
            server = f"{base.address}/mcp"
            order = {"chromium": programs.chromium, "folder": str(folder), "server": server}
            file = folder / "order.json"
            file.write_text(json.dumps(order | {"parts": parts(page, other_page, server, seconds)}))
            words = [programs.python, str(_HERE / "driver.py"), str(file)]
            done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, check=False)
    (folder / "driver.txt").write_text(done.stdout + done.stderr)
    if done.returncode:
        raise AssertionError(f"the browser's driver ended with {done.returncode}: {done.stderr[-2000:]}")
    return [row_of(json.loads(line), seconds) for line in done.stdout.splitlines()]


def _pages(programs: BrowserPrograms) -> Starlette:
    """One origin with the Inspector's page, the page of the programs, and the packages that they import."""
    files = [
        Route("/client.html", lambda _: FileResponse(_HERE / "client.html")),
        Route("/plain_client.mjs", lambda _: FileResponse(_HERE / "plain_client.mjs", media_type="text/javascript")),
        Mount("/clients", StaticFiles(directory=ROOT / "tests" / "clients")),
        Mount("/modules", StaticFiles(directory=_MODULES)),
        Mount("/", StaticFiles(directory=programs.inspector, html=True)),
    ]
    return Starlette(routes=files)


def row_of(shown: dict[str, Any], seconds: int) -> Row:
    """Judge a part by what the driver has written of it."""
    name = shown["name"]
    run = Run(name, "http", records=[_record(request) for request in shown["requests"]])
    verdict, words = _judge(shown, run, seconds)
    package = next((package for start, package in _CLIENTS.items() if name.startswith(start)), None)
    version = version_in(_MODULES / package) if package else PACKAGES["inspector-page"].version
    return Row(name, version or "?", "browser", "direct", run.client.get("name", "?"), run.dialect, verdict, words)


def _record(request: dict[str, Any]) -> dict[str, Any]:
    body = json.loads(request["body"]) if request["body"] else None
    return {"what": "request", "method": request["method"], "headers": request["headers"], "body": body}


def _judge(shown: dict[str, Any], run: Run, seconds: int) -> tuple[Verdict, str]:
    name, lines = shown["name"], shown["lines"]
    if shown["error"]:
        return Verdict.WRONG, shown["error"][-300:]
    if name == "inspector-other-origin":
        return Verdict.RIGHT, "the page of an origin that is not allowed cannot connect"
    if name == "inspector-question":
        return Verdict.RIGHT, "answered: accept"
    if broken := [line for line in lines if line["saw"] == "error"]:
        return Verdict.WRONG, str(broken)[-300:]
    if not name.startswith("inspector") and f"{seconds * 7} jars" not in str(lines[-1:]):
        return Verdict.WRONG, f"no result: {str(lines)[-300:]}"
    if name.startswith("sdk") and [line["status"] for line in lines if line["saw"] == "api"] != [HTTPStatus.NOT_FOUND]:
        return Verdict.WRONG, f"the page could not read the HTTP API: {str(lines)[-300:]}"
    is_task = name == "inspector-task" or name.startswith("ext-tasks")
    if is_task is not run.dialect.endswith(", tasks"):
        return Verdict.WRONG, f"the call was made in another way: {run.dialect}"
    seen = sum(line["saw"] in ("progress", "status") for line in lines)
    seen += sum(line.get("progress", 0) + line.get("tasks/status", 0) for line in lines if line["saw"] == "result")
    if seen < seconds // 2:
        return Verdict.WRONG, f"{seen} messages of progress in {seconds} s"
    return Verdict.RIGHT, f"result, {seen} messages of progress"
