"""One run of one host: the scripted model, the recording, the host as a process, and what was seen.

`taskmill run` is started once for all runs over HTTP; over stdio each host starts `taskmill stdio` itself. How a host
comes to its server by `taskmill install` is in `installed_server.py`.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import uvicorn
from starlette.types import ASGIApp

from tests.hosts.installed_server import InstalledTaskmill, recording
from tests.hosts.launchers import LAUNCHERS, Setting
from tests.hosts.model_apis import ModelLog, model_app
from tests.hosts.recording_proxy import RecordingProxy
from tests.hosts.scripted_model import prompt_of
from tests.hosts.servers import HostServer
from tests.support.processes import taskmill
from tests.support.redis_server import free_port, listens

__all__ = ["OPERATOR", "Run", "Served", "Transport", "listening", "run_host", "served"]

Transport = Literal["http", "stdio", "installed", "wrapped"]
"""`installed` is stdio, with the entry that `taskmill install` writes into the host's own file and nothing besides;
`wrapped` the same with `--wrap`, of an entry that the host's own command has written."""
_TOKEN = "operator-token-of-the-host-runs"
_TASKS = "io.modelcontextprotocol/tasks"
OPERATOR = {"Authorization": f"Bearer {_TOKEN}"}
"""The header by which the served API shows all tasks."""


@dataclass(frozen=True)
class Served:
    """The server that hosts use."""

    server: HostServer
    """Which one, for hosts that start it over stdio."""
    address: str
    """The base address of `taskmill run` with it."""


@dataclass
class Run:
    """What a run has shown."""

    host: str
    transport: Transport
    records: list[dict[str, Any]] = field(default_factory=list)
    """Messages of both sides, in order: `what` is request, answer, "client left" and so on, `body` the message."""
    model: ModelLog = field(default_factory=ModelLog)
    output: str = ""
    """What the host wrote to standard output and standard error."""
    code: int | None = None
    """The host's exit code, None = it was killed because it took too long."""
    seconds: float = 0.0
    fault: str = ""
    """What was wrong beside the run itself."""

    def bodies(self, what: str) -> list[dict[str, Any]]:
        """The messages that one side sent, single ones and those of a batch."""
        found = [record.get("body") for record in self.records if record["what"] == what]
        return [one for body in found for one in (body if isinstance(body, list) else [body]) if isinstance(one, dict)]

    def sent(self, method: str) -> int:
        """How many messages of a method the host has sent."""
        return sum(body.get("method") == method for body in self.bodies("request"))

    def calls(self, tool: str) -> int:
        """How often the host has called a tool."""
        return sum((body.get("params") or {}).get("name") == tool for body in self.bodies("request"))

    @property
    def client(self) -> dict[str, str]:
        """`name` and `version` by which the host calls itself; {} if it never did."""
        return next((dict(info) for info in self._given("clientInfo")), {})

    @property
    def revision(self) -> str:
        """The protocol revision that the host and the server agreed on, "" if they did not."""
        for body in self.bodies("answer"):
            if version := (body.get("result") or {}).get("protocolVersion"):
                return str(version)
        sent = [_meta(params).get("protocolVersion") for params in self._params]
        sent += [(record.get("headers") or {}).get("mcp-protocol-version") for record in self.records]
        return next((str(version) for version in sent if version), "")

    @property
    def dialect(self) -> str:
        """How the host speaks: the revision, and whether it makes tasks of its calls; "?" if nothing was agreed on."""
        if not self.revision:
            return "?"
        tasks = any("task" in params for params in self._params)
        tasks = tasks or any(_TASKS in found.get("extensions", {}) for found in self._given("clientCapabilities"))
        return f"{self.revision}, {'tasks' if tasks else 'plain calls'}"

    def declares(self, capability: str) -> bool:
        """Whether the host says that it has a capability."""
        found = [*self._given("capabilities"), *self._given("clientCapabilities")]
        return any(capability in capabilities for capabilities in found)

    @property
    def _params(self) -> list[dict[str, Any]]:
        return [body.get("params") or {} for body in self.bodies("request")]

    def _given(self, name: str) -> list[dict[str, Any]]:
        """What the host says of itself, in either era: with `initialize`, or with every request."""
        found = [params.get(name) or _meta(params).get(name) for params in self._params]
        return [given for given in found if isinstance(given, dict)]


def _meta(params: dict[str, Any]) -> dict[str, Any]:
    """What stands in the `_meta` of a request for the protocol itself."""
    prefix = "io.modelcontextprotocol/"
    meta = params.get("_meta") or {}
    return {name.removeprefix(prefix): value for name, value in meta.items() if name.startswith(prefix)}


@asynccontextmanager
async def served(folder: Path, server: HostServer, *options: str) -> AsyncIterator[Served]:
    """`taskmill run` with a server on a free port, and further options; a foreign one is a process beside it."""
    async with AsyncExitStack() as stack:
        target = str(server.file)
        if server.is_foreign:
            upstream = free_port()
            await stack.enter_async_context(_listener([*server.command, str(upstream)], upstream, folder / "upstream"))
            target = f"http://127.0.0.1:{upstream}/mcp"
        port = free_port()
        words = [taskmill(), "run", target, "--port", str(port), *options]
        await stack.enter_async_context(_listener(words, port, folder / "taskmill"))
        yield Served(server, f"http://127.0.0.1:{port}")


@asynccontextmanager
async def _listener(words: Sequence[str], port: int, log: Path) -> AsyncIterator[None]:
    """A process that listens on a port; ended at the end."""
    with log.with_suffix(".log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *words, env=_taskmill_env(log.parent), stdout=output, stderr=output
        )
        try:
            await _until(lambda: listens(port), 60)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()


async def run_host(
    host: str,
    program: list[str],
    folder: Path,
    transport: Transport,
    server: Served,
    steps: list[dict[str, Any]],
    *,
    within: float,
    interrupt_when: Callable[[], bool] | None = None,
) -> Run:
    """Run a host once through the steps.

    Args:
        interrupt_when: the host gets SIGINT, as by Ctrl-C in a terminal, once this is so.
    """
    run = Run(host, transport)
    home, work = folder / "home", folder / "work"
    for each in (home, work / ".git"):
        each.mkdir(parents=True, exist_ok=True)
    wire = folder / "wire.jsonl"
    recorder = [*recording(wire), taskmill(), "stdio", *server.server.target]
    own = {"HOME": str(home), "PATH": os.environ["PATH"], "NO_COLOR": "1", "LANG": "C.UTF-8", "TERM": "dumb"}
    async with listening(model_app(run.model)) as model:
        proxy = RecordingProxy(server.address)
        run.records = proxy.records
        async with listening(proxy.app) as address:
            url = f"{address}/mcp" if transport == "http" else None
            words = recorder if transport == "stdio" else []
            steps_in_words, server_env = prompt_of(steps), _taskmill_env(folder, home)
            setting = Setting(
                program, home, model, steps_in_words, url, words, server_env, starts_another=server.server.is_foreign
            )
            launch = LAUNCHERS[host][1](setting)
            env = own | {"NO_PROXY": "127.0.0.1,localhost"} | launch.env
            watch = partial(_watch, run, launch.command, work, env, within=within, interrupt_when=interrupt_when)
            if transport in ("http", "stdio"):
                await watch()
            else:
                installed = InstalledTaskmill(host, server.server, work, env, wire)
                await _watch_installed(run, installed, program, watch)
    _read_wire(run, wire)
    return run


async def _watch_installed(
    run: Run, installed: InstalledTaskmill, program: list[str], watch: Callable[[], Awaitable[None]]
) -> None:
    """Give the host its server by `taskmill install`, and look what of a wrapped entry is left at the end."""
    if run.transport == "installed":
        await installed.install()
        await watch()
        return
    before = await installed.add_and_wrap(program)
    await watch()
    after = await installed.unwrap()
    if after != before:
        run.fault = f"the entry was {before!r} before --wrap, and is {after!r} after --unwrap"


async def _watch(
    run: Run,
    command: list[str],
    work: Path,
    env: dict[str, str],
    *,
    within: float,
    interrupt_when: Callable[[], bool] | None,
) -> None:
    """Start the host, interrupt it if that is wanted, and wait for its end."""
    began = time.monotonic()
    output = work.parent / "output.txt"
    with output.open("wb") as file:
        # A group of its own, which is what Ctrl-C in a terminal reaches.
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=work,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        if interrupt_when is not None:
            with suppress(TimeoutError):
                await _until(lambda: interrupt_when() or process.returncode is not None, within)
            _signal_group(process, signal.SIGINT)
        try:
            run.code = await asyncio.wait_for(process.wait(), within)
        except TimeoutError:
            _signal_group(process, signal.SIGKILL)
            await process.wait()
    run.seconds = round(time.monotonic() - began, 1)
    run.output = output.read_text(errors="replace")


def _signal_group(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        os.killpg(process.pid, number)


def _read_wire(run: Run, wire: Path) -> None:
    """What `recording_pipe.py` has written so far, in the place of what was read before."""
    if wire.exists():
        lines = wire.read_text().splitlines()
        run.records[:] = [json.loads(line) for line in lines if line.endswith("}")]


def _taskmill_env(folder: Path, home: Path | None = None) -> dict[str, str]:
    data = {"TASKMILL_HOME": str(folder / ".taskmill"), "TASKMILL_GRACE": "1", "TASKMILL_API_OPERATOR_TOKEN": _TOKEN}
    data["HOSTS_FOLDER"] = str(folder.parent if home else folder)
    return {"HOME": str(home or folder), "PATH": os.environ["PATH"], **data}


@asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[str]:
    """An application on a port of its own in this loop; gives its base address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        await _until(lambda: server.started, 10)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await serving


async def _until(is_so: Callable[[], bool], within: float) -> None:
    deadline = time.monotonic() + within
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within} s")
        await asyncio.sleep(0.1)
