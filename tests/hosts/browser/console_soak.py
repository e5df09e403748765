"""Live pages of the console, open for an hour while tasks run and end: neither the browser nor the server may grow.

scripts/console-soak --minutes 60
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path

import httpx2
from redis.asyncio import Redis

from tests.hosts.browser.browsers import chromium
from tests.hosts.installation import install
from tests.support.client_wires import TASKS, ModernHttp, RpcError
from tests.support.processes import descendants, taskmill
from tests.support.redis_server import PrivateRedis, free_port
from tests.support.waiting import eventually_async

__all__ = ["LIMITS", "Plan", "Report", "soak_console"]

_HERE = Path(__file__).parent
_TOKEN = "the-token-of-the-operator"
_STEPS = 60
_WARM_UP = 30
"""Tasks that end before the first look: pages and server then have what they show."""
LIMITS = {"heap": 0.05, "rss": 0.05, "nodes": 0.05, "listeners": 0, "documents": 0, "sockets": 0.1}
LIMITS |= {"subscriptions": 0, "redis connections": 0}
"""Figure -> by which part it may be more in the last fifth than in the second. A request takes one socket."""


@dataclass(frozen=True)
class Plan:
    """What a run is made of."""

    minutes: float
    rate: float = 5.0
    """Tasks a second."""
    steps: int = _STEPS
    """How often is measured, evenly."""


@dataclass
class Report:
    """What came of it."""

    ended: int = 0
    wrong: list[str] = field(default_factory=list)
    figures: dict[str, list[float]] = field(default_factory=dict)
    """`PAGE: heap` and so on of the browser, `server: rss` and so on, each in even steps."""

    def add(self, figures: dict[str, float]) -> None:
        """One step's."""
        for name, value in figures.items():
            self.figures.setdefault(name, []).append(value)

    def fifths(self, name: str) -> tuple[float, float]:
        """Medians of the second fifth and of the last one."""
        samples = self.figures[name]
        fifth = max(1, len(samples) // 5)
        return statistics.median(samples[fifth : 2 * fifth]), statistics.median(samples[-fifth:])

    def growth(self, name: str) -> float:
        """How much more it is in the last fifth than in the second; 0.05 = 5 %."""
        early, late = self.fifths(name)
        return (late - early) / max(early, 1)

    def grown(self) -> list[str]:
        """What has grown by more than its limit."""
        return [name for name in self.figures if self.growth(name) > LIMITS[name.partition(": ")[2]]]

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{self.ended} tasks ended, {len(self.wrong)} calls went wrong"
        yield from self.wrong[:20]
        for name in self.figures:
            early, late = self.fifths(name)
            yield f"{name}: {early:,.0f} in the second fifth, {late:,.0f} in the last: {self.growth(name):+.1%}"
        yield f"grown: {', '.join(self.grown()) or 'nothing'}"


async def soak_console(plan: Plan, folder: Path) -> Report:
    """Carry a plan out.

    Raises:
        CannotInstall: there is no browser.
    """
    browser, python = chromium(), install("playwright")[0]
    report = Report()
    with PrivateRedis() as redis_server:
        async with _served(folder, redis_server.url) as (base, server):
            call = {"name": "walk", "arguments": {"seconds": plan.minutes * 60 + 600}}
            follower = ModernHttp(f"{base}/mcp", {"extensions": {TASKS: {}}})
            walk = await asyncio.to_thread(follower.request, "tools/call", call)
            load = asyncio.create_task(_load(plan.rate, ModernHttp(f"{base}/mcp", {}), report))
            try:
                await eventually_async(lambda: report.ended >= _WARM_UP)
                pages = ["overview=/", f"a running task=/tasks/{walk['taskId']}", "workers=/workers"]
                pace = plan.minutes * 60 / plan.steps
                words = [browser, f"{base}/console/login#{_TOKEN}", str(plan.steps), f"{pace:.3f}", *pages]
                async for figures in _measured([python, str(_HERE / "console_soak_program.py"), *words]):
                    report.add(figures | await _of_server(server, redis_server.url))
                    (folder / "report.json").write_text(json.dumps(asdict(report)))
            finally:
                load.cancel()
                with suppress(asyncio.CancelledError):
                    await load
    return report


@asynccontextmanager
async def _served(folder: Path, redis_url: str) -> AsyncIterator[tuple[str, int]]:
    """`taskmill run` with the tools: its address, and the process that serves."""
    port = free_port()
    variables = {name: value for name, value in os.environ.items() if not name.startswith("TASKMILL_")}
    # What has ended is soon gone: what grows then is no task that is still kept.
    variables |= {"TASKMILL_OPERATOR_TOKENS": f"ada=read,act:{_TOKEN}", "TASKMILL_RETENTION_LIMIT": "30"}
    words = ["run", str(_HERE / "console_soak_tools.py"), "--port", str(port), "--redis-url", redis_url]
    with (folder / "taskmill.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            taskmill(), *words, cwd=folder, env=variables, stdout=log, stderr=log
        )
    base = f"http://127.0.0.1:{port}"
    try:
        async with httpx2.AsyncClient(timeout=5) as http:

            async def is_ready() -> bool:
                assert process.returncode is None, (folder / "taskmill.log").read_text()
                with suppress(httpx2.HTTPError):
                    return (await http.get(f"{base}/readyz")).status_code == 200
                return False

            await eventually_async(is_ready)
        yield base, _listener(process.pid, port)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


def _listener(pid: int, port: int) -> int:
    """The process that listens on a port, among one and its descendants."""
    listening = {
        f"socket:[{fields[9]}]"
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if (fields := line.split())[3] == "0A" and int(fields[1].partition(":")[2], 16) == port
    }
    return next(one for one in (pid, *descendants(pid)) if listening & set(_open_files(one)))


def _open_files(pid: int) -> Iterator[str]:
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            yield str(file.readlink())


async def _load(rate: float, wire: ModernHttp, report: Report) -> None:
    """Call a tool again and again, as often as the rate says; one in ten fails."""
    for n in count():
        began, fails = asyncio.get_running_loop().time(), n % 10 == 9
        call = {"name": "broken" if fails else "quick", "arguments": {"n": n}}
        try:
            result = await asyncio.to_thread(wire.request, "tools/call", call)
            if result.get("isError", False) is not fails:
                report.wrong.append(f"{n}: {str(result)[:200]}")
            report.ended += 1
        except (RpcError, httpx2.HTTPError) as exc:
            report.wrong.append(f"{n}: {exc}")
        with suppress(TimeoutError):
            async with asyncio.timeout_at(began + 1 / rate):
                await asyncio.Event().wait()


async def _measured(words: list[str]) -> AsyncIterator[dict[str, float]]:
    """What the browser's program prints."""
    driver = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert driver.stdout is not None
    assert driver.stderr is not None
    async for line in driver.stdout:
        yield json.loads(line)
    assert await driver.wait() == 0, (await driver.stderr.read()).decode()[-3000:]


async def _of_server(pid: int, redis_url: str) -> dict[str, float]:
    status = Path(f"/proc/{pid}/status").read_text()
    resident = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert resident is not None
    async with Redis.from_url(redis_url) as redis:
        clients = await redis.client_list()
    return {
        "server: rss": int(resident[1]) * 1024,
        "server: sockets": sum(name.startswith("socket:") for name in _open_files(pid)),
        "server: redis connections": len(clients) - 1,
        "server: subscriptions": sum(int(one[kind]) for one in clients for kind in ("sub", "psub", "ssub")),
    }


def main() -> int:
    """0: nothing has grown, and no call went wrong."""
    parser = argparse.ArgumentParser(prog="scripts/console-soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=5.0, help="tasks a second")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="console-soak-"))
    print(f"log and figures in {folder}", flush=True)
    report = asyncio.run(soak_console(Plan(options.minutes, options.rate), folder))
    print("\n".join(report.lines()))
    return bool(report.wrong or report.grown())


if __name__ == "__main__":
    raise SystemExit(main())
