"""Run the tests of a project: each line is shown as it comes, and a cancel ends every process of the run.

Here: the tool, and a command whose processes end with the task or with the worker. Not here: other commands than
pytest; `started` takes any, such as a build.
"""

import asyncio
import os
import re
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel

from taskmill.server import Context, TaskConfig, TaskServer

mcp = TaskServer("Run tests")

PERCENT = re.compile(r"\[\s*(\d+)%\]\s*$")
VERDICTS = ("FAILED ", "ERROR ")
TAIL = 30
SHOWN = 20
LONGEST_LINE = 2000
GRACE = 5
"""Seconds that a cancelled run has for its teardown."""
GUARDED = 'exec 3<&0; (cat <&3; kill -s KILL 0) >/dev/null 2>&1 & exec 3<&-; "$@" </dev/null; exit $?'
"""Runs a command, and kills its whole process group when standard input is closed: also when this worker is killed."""
MEANINGS = {0: "all passed", 1: "some failed", 2: "interrupted", 3: "pytest failed", 4: "wrong usage", 5: "no tests"}


class Run(BaseModel):
    command: list[str]
    exit_code: int
    meaning: str
    seconds: float
    failed: list[str]
    tail: list[str]
    """The last lines."""


@asynccontextmanager
async def started(command: list[str], folder: Path) -> AsyncIterator[Process]:
    """A command in a process group of its own, of which nothing runs any more behind the block."""
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", GUARDED, "sh", *command),
        cwd=folder,
        stdin=PIPE,
        stdout=PIPE,
        stderr=STDOUT,
        start_new_session=True,
    )
    assert process.stdin is not None
    ended = asyncio.ensure_future(process.wait())
    # What the command leaves behind would keep its output open.
    ended.add_done_callback(lambda _: process.stdin and process.stdin.close())
    try:
        yield process
    finally:
        if not ended.done():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            await asyncio.wait([ended], timeout=GRACE)
        process.stdin.close()
        await ended


async def lines_of(process: Process) -> AsyncIterator[str]:
    """What a command prints, by line; a long line comes in parts."""
    assert process.stdout is not None
    rest = b""
    while data := await process.stdout.read(65536):
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > LONGEST_LINE:
            lines, rest = [*lines, rest], b""
        for line in lines:
            yield line.decode("utf-8", "replace").rstrip()
    if rest:
        yield rest.decode("utf-8", "replace")


async def interpreter(folder: Path) -> str:
    """The project's own Python if it has one, else the worker's; pytest is there.

    Raises:
        ToolError: pytest is not.
    """
    found = [path for path in (folder / ".venv/bin/python", folder / "venv/bin/python") if os.access(path, os.X_OK)]
    python = str(found[0]) if found else sys.executable
    probe = await asyncio.create_subprocess_exec(
        *(python, "-c", "import pytest"), cwd=folder, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
    )
    if await probe.wait():
        raise ToolError(f"{python} has no pytest. Install it there, or make {folder}/.venv with it.")
    return python


def checked(folder: str, select: list[str]) -> Path:
    """The folder.

    Raises:
        ToolError: it is none, or `select` has more than files and tests.
    """
    path = Path(folder).expanduser().absolute()
    if not path.is_dir():
        raise ToolError(f"{path} is no folder. Name the folder of a project.")
    if options := [one for one in select if one.startswith("-")]:
        raise ToolError(f"{options[0]!r} is an option. Select files and tests: tests/test_a.py::test_one.")
    return path


def render(run: Run) -> str:
    """The result as text for a terminal."""
    failed = [*run.failed[:SHOWN], *["..."] * (len(run.failed) > SHOWN)]
    return "\n".join([f"{run.meaning} in {run.seconds:.1f} s (exit code {run.exit_code})", *(failed or run.tail[-1:])])


@mcp.tool(task=TaskConfig(timeout=timedelta(hours=2)))
async def run_tests(folder: str, ctx: Context, select: list[str] | None = None) -> Annotated[CallToolResult, Run]:
    """Run pytest in the folder of a project: all of its tests, or the files and tests in `select`."""
    path = checked(folder, select or [])
    command = [await interpreter(path), "-m", "pytest", "-rfE", "--color=no", "--", *(select or [])]
    begun, percent = time.monotonic(), 0
    tail, failed = deque[str](maxlen=TAIL), list[str]()
    async with started(command, path) as process:
        async for line in lines_of(process):
            await ctx.emit(line + "\n")
            tail.append(line)
            failed += [line] if line.startswith(VERDICTS) else []
            if match := PERCENT.search(line):
                percent = int(match[1])
            if line.strip("= "):
                await ctx.report_progress(percent, 100, line[:80])
        code = await process.wait()
    run = Run(
        command=command,
        exit_code=code,
        meaning=MEANINGS.get(code, "killed"),
        seconds=time.monotonic() - begun,
        failed=failed,
        tail=list(tail),
    )
    text = TextContent(type="text", text=render(run))
    return CallToolResult(content=[text], structured_content=run.model_dump(mode="json"))
