"""The `taskmill` command as tests run it: real processes with a data directory of their own; none is left at the end.

Here: start processes, read and type, and count them. The tests say what they should do.
"""

import codecs
import contextlib
import http.client
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.forked_commands import ForkedCommand, may_fork, run_forked
from tests.support.processes import kill, processes_with
from tests.support.waiting import WAIT_SECONDS, eventually

__all__ = ["SERVER", "CommandLine", "PythonLine", "Screen", "is_ready", "port_of"]

SERVER = '''
"""The server that these tests call."""

import asyncio
from pathlib import Path

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from taskmill.server import Context, TaskConfig, TaskServer

mcp = TaskServer("Tests")
QUICK = TaskConfig(poll_interval=0.1)


class Guest(BaseModel):
    name: str = Field(description="Your name")
    age: int = 30
    vip: bool


@mcp.tool()
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@mcp.tool()
async def echo(text: str, more: list[str] | None = None) -> str:
    """Return what came."""
    return f"{text!r} {more!r}"


@mcp.tool()
async def figures() -> CallToolResult:
    """Structure without words."""
    return CallToolResult(content=[], structured_content={"a": 1})


@mcp.tool(task=QUICK)
async def dig(gate: str, ctx: Context) -> str:
    """Report that half of the work is done, wait for a file, and do the rest."""
    await ctx.report_progress(1, 2, "half of the hole")
    while not Path(gate).exists():
        await asyncio.sleep(0.02)
    return "dug"


@mcp.tool(task=QUICK)
async def greet(ctx: Context) -> str:
    """Ask who is there."""
    answer = await ctx.elicit("Who is there?", Guest)
    return f"{answer.action} {getattr(answer, 'data', None)}"


@mcp.tool(task=QUICK)
async def stumble() -> str:
    """Fail as a tool."""
    raise ToolError("the ground was uneven")

'''


def is_ready(port: int) -> bool:
    """Whether a server at the port can serve."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def port_of(url: str) -> int:
    return int(url.split(":")[2].split("/")[0])


@dataclass
class CommandLine:
    """A working directory with a server file and a data directory, and the processes that use them.

    As a context manager it ends the processes that are left.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    forks = True
    """Whether commands may be forked from a process that has imported them; False = all are executed."""

    def __post_init__(self) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASKMILL_")}
        # A task that a test leaves must not keep its worker alive.
        own = {"TASKMILL_HOME": str(self.folder / ".taskmill"), "TASKMILL_GRACE": "1", "COLUMNS": "160"}
        own |= {"TEST_FOLDER": str(self.folder)}
        self.environment = inherited | own | self.environment
        self.write("server.py", SERVER)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def write(self, name: str, text: str) -> Path:
        """Write a file in the working directory; its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def command(self, *words: str) -> list[str]:
        """The command line of `taskmill` with these words."""
        return [str(Path(sys.executable).with_name("taskmill")), *words]

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; standard input is empty. Forked where that makes no difference: it costs less."""
        given = self.environment | environment
        if self.forks and may_fork(self.command(*words), given):
            return run_forked(self.command(*words), given, self.folder)
        return subprocess.run(
            self.command(*words),
            env=given,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
        )

    @contextlib.contextmanager
    def started(self, *words: str, **environment: str) -> Iterator["Started"]:
        """A command that keeps running; terminated at the end, if it still runs. Forked as in `run`."""
        log = self.folder / f"{words[0]}.log"
        given = self.environment | environment
        process: subprocess.Popen[str] | ForkedCommand
        with log.open("ab") as errors:
            if self.forks and may_fork(self.command(*words), given):
                process = ForkedCommand(self.command(*words), given, self.folder, errors=errors.fileno())
            else:
                process = subprocess.Popen(
                    self.command(*words),
                    env=given,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    start_new_session=True,
                )
        assert process.stdout is not None
        try:
            yield Started(process, log)
        finally:
            process.terminate()
            try:
                process.wait(WAIT_SECONDS)
            finally:
                process.kill()
                process.wait()
                process.stdout.close()

    @contextlib.contextmanager
    def serving(self) -> Iterator[Self]:
        """Its server runs, at TEST_URL of the environment; at the end no process does."""
        with self, self.started("run", "server.py", "--port", "0") as command:
            self.environment["TEST_URL"] = command.url()
            yield self

    def processes(self, part: str = "") -> dict[int, str]:
        """Command lines by process id: all processes started here that have `part` in their command line."""
        found = processes_with("TEST_FOLDER", str(self.folder))
        return {pid: line for pid, line in found.items() if part in line}

    def kill(self, part: str) -> list[int]:
        """Kill the processes that have `part` in their command line, at least one, as `kill -9` does; their ids."""
        found = list(eventually(lambda: self.processes(part)))
        kill(found)
        return found

    def clear(self) -> dict[int, str]:
        """Kill the processes that are left; their command lines by id."""
        left = self.processes()
        kill(left)
        return left


class PythonLine(CommandLine):
    """Its commands are Python's."""

    def command(self, *words: str) -> list[str]:
        """The command line of `python` with these words."""
        return [sys.executable, *words]


@dataclass
class Started:
    """A command that runs."""

    process: subprocess.Popen[str] | ForkedCommand
    log: Path

    def first_line(self) -> str:
        """The first line that it prints; fails if it ends instead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended with {self.process.wait(WAIT_SECONDS)}:\n{self.log.read_text()}"
        return line.rstrip("\n")

    def url(self) -> str:
        """The endpoint, from the ready line."""
        return self.first_line().split()[1]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(WAIT_SECONDS)


_WHOLE_CODES = re.compile(r"(.*?)(\x1b(?:\[[0-9;?]*)?|)", re.DOTALL)


class Screen:
    """A command in a terminal of its own: reads what it shows, types, and presses Ctrl-C."""

    def __init__(self, cli: CommandLine, words: Sequence[str], term: str = "xterm") -> None:
        command = cli.command(*words)
        environment = cli.environment | {"TERM": term}
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.chdir(cli.folder)
            os.execve(command[0], command, environment)
        self.shown = ""
        self.raw = ""
        """The same with its colours."""
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._cut = ""
        """The beginning of a code, whose end was not read yet."""
        self._read_to = 0
        self._code: int | None = None

    def wait_for(self, text: str) -> None:
        """Read until `text` is shown, after the text of the last wait."""
        deadline = time.monotonic() + WAIT_SECONDS
        while (at := self.shown.find(text, self._read_to)) < 0:
            assert time.monotonic() < deadline, f"{text!r} was not shown:\n{self.shown[-2000:]}"
            assert self._read(), f"it ended and did not show {text!r}:\n{self.shown[-2000:]}"
        self._read_to = at + len(text)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._terminal, text.encode())

    def end(self) -> int:
        """Read to the end; the exit code."""
        deadline = time.monotonic() + WAIT_SECONDS
        while self._read():
            assert time.monotonic() < deadline, f"it does not end:\n{self.shown[-2000:]}"
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def hang_up(self) -> None:
        """Close the terminal, as a closed window does, and wait for the end of the command."""
        os.close(self._terminal)
        self._terminal = -1
        deadline = time.monotonic() + WAIT_SECONDS
        while self._code is None:
            assert time.monotonic() < deadline, "it does not end when its terminal is closed"
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
            select.select([], [], [], 0.05)

    def close(self) -> None:
        """Kill it if it still runs."""
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)
        if self._terminal >= 0:
            os.close(self._terminal)

    def _read(self) -> bool:
        if not select.select([self._terminal], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self._terminal, 65536)
        except OSError:
            return False  # the other side is closed
        text = self._decode(data)
        self.raw += text
        # A code may be cut in two where one reading ends.
        self._cut += text
        whole, self._cut = _WHOLE_CODES.fullmatch(self._cut).groups()  # type: ignore[union-attr]  # it matches all texts
        self.shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", whole)
        return bool(data)
