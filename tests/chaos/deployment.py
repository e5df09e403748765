"""The processes under chaos: one Redis, a proxy before it, replicas and workers as people run them, to be killed."""

import asyncio
import os
import random
import resource
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from redis.asyncio import Redis

from taskmill.store.formats.keys import Keys
from tests.support.movable_clock import can_move_clocks
from tests.support.redis_server import PrivateRedis, free_port

__all__ = ["REPLICAS", "Deployment", "pass_time", "until"]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SERVER = HERE / "tools.py"
REPLICAS = ("replica-1", "replica-2")


async def until(probe: Callable[[], object], *, within: float, what: str) -> None:
    """Wait until the probe says yes."""
    deadline = time.monotonic() + within
    while not probe():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} not within {within:g} s")
        await asyncio.sleep(0.05)


async def pass_time(seconds: float) -> None:
    """Let time pass."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()


class Deployment:
    """`lease`: seconds. Every file is in `folder`, journals in `folder/journals`."""

    def __init__(
        self, folder: Path, *, workers: int, lease: float, cut_rate: float, seed: int, **settings: float
    ) -> None:
        """`settings`: of every process, by their names in the reference without TASKMILL_, in lower case."""
        self.folder = folder
        self.journals = folder / "journals"
        self.journals.mkdir(parents=True, exist_ok=True)
        self.lease = lease
        self._settings = {f"TASKMILL_{name.upper()}": str(value) for name, value in settings.items()}
        self.workers = [f"worker-{number + 1}" for number in range(workers)]
        self.versions = dict.fromkeys(self.workers, "1")
        """A rolling deploy begins with a worker that does not know the newest tool."""
        # As the embedded server (store/embedded/supervisor.py): the kernel has each write before its reply.
        self.redis = PrivateRedis(movable=can_move_clocks(), appendonly="yes", appendfsync="no")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ports: dict[str, int] = {}
        self._since: dict[str, int] = {}
        """Where the log of the present process of a name begins."""
        self._cut_rate = cut_rate
        self._random = random.Random(seed)
        self._proxied = self.redis.directory / "proxy.sock"
        self.redis_url = f"unix://{self._proxied}?db=0"
        self.keys = Keys()

    @property
    def urls(self) -> list[str]:
        """MCP endpoints of the replicas."""
        return [f"http://127.0.0.1:{self._ports[name]}/mcp" for name in REPLICAS]

    async def start(self) -> None:
        """Start everything; returns when every replica answers."""
        await self.start_redis()
        for name in REPLICAS:
            self._ports[name] = free_port()
            self.start_replica(name)
        for name in self.workers:
            self.start_worker(name)
        for url in self.urls:
            await until(lambda url=url: _ready(url), within=180, what=url)

    async def start_redis(self) -> None:
        """Start Redis and the proxy before it."""
        self.redis.start()
        self._run(
            "proxy",
            *["-m", "tests.chaos.proxy", str(self._proxied), str(self.redis.directory / "redis.sock")],
            *[str(self.journals / "proxy"), "--rate", str(self._cut_rate), "--seed", str(self._random.randrange(1000))],
        )
        await until(self._proxied.exists, within=10, what="the proxy")

    async def restart_redis(self) -> None:
        """Start it if it is down."""
        if self.redis.process is None:
            await asyncio.to_thread(self.redis.start)

    async def client(self) -> Redis:
        """A client past the proxy, to be closed."""
        return Redis.from_url(self.redis.url)

    def start_replica(self, name: str) -> None:
        """Start a replica at its address."""
        self._run(name, "-m", "taskmill.cli.main", "serve", str(SERVER), "--port", str(self._ports[name]))

    def start_worker(self, name: str) -> None:
        """Start a worker of its present version."""
        command = ["worker", str(SERVER), "--concurrency", "20", "--grace", "0.5"]
        self._run(name, "-m", "taskmill.cli.main", *command, CHAOS_VERSION=self.versions[name])

    def signal(self, name: str, number: signal.Signals) -> None:
        """Signal a process if it lives."""
        if self.lives(name):
            self._processes[name].send_signal(number)

    def lives(self, name: str) -> bool:
        return self._processes[name].poll() is None

    def is_up(self, name: str) -> bool:
        """Whether a process lives and has said that it works."""
        with (self.folder / f"{name}.log").open("rb") as log:
            log.seek(self._since[name])
            said = log.read()
        return self.lives(name) and (b"worker.started" in said or b"taskmill: http" in said)

    async def kill(self, name: str) -> None:
        """SIGKILL; returns when it is gone."""
        self.signal(name, signal.SIGKILL)
        await until(lambda: not self.lives(name), within=10, what=f"the end of {name}")

    async def stop(self, name: str) -> int:
        """SIGTERM, and the exit code."""
        self.signal(name, signal.SIGCONT)
        self.signal(name, signal.SIGTERM)
        await until(lambda: not self.lives(name), within=30, what=f"the exit of {name}")
        return self._processes[name].wait()

    def calm(self) -> None:
        """No connection is cut any more."""
        self.signal("proxy", signal.SIGUSR1)

    def memory(self, name: str) -> int:
        """Bytes of memory that a process uses."""
        pages = Path(f"/proc/{self._processes[name].pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

    def log(self, name: str) -> str:
        """What a process wrote."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def _run(self, name: str, *command: str, **more: str) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TASKMILL_")}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "CHAOS_JOURNALS": str(self.journals),
            "CHAOS_MEMORY_LIMIT": str(16 << 30),
            "TASKMILL_REDIS_URL": self.redis_url,
            "TASKMILL_LEASE": str(self.lease),
            "TASKMILL_CRASH_LIMIT": "1000",
            "TASKMILL_POLL": "0.3",
            "TASKMILL_RECONCILE_EVERY": "2",
            **self._settings,
            **more,
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            self._since[name] = log.tell()
            self._processes[name] = subprocess.Popen(
                [self._python(name), *command], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _python(self, _name: str) -> str:
        """The interpreter that runs a process."""
        return sys.executable

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        self.redis.stop()


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url.removesuffix("mcp") + "readyz", timeout=2) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False
