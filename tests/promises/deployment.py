"""A deployment as people run it: `taskmill serve` and `taskmill worker` processes on one Redis, for a test to kill."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.redis_server import PrivateRedis
from tests.support.waiting import eventually

SERVER = Path(__file__).with_name("server.py")
TASKMILL = Path(sys.executable).with_name("taskmill")


class Deployment:
    """Its processes by name; all of them are gone at the end.

    `server`: the file that they serve. `settings`: more of their environment.
    """

    def __init__(self, folder: Path, server: Path = SERVER, settings: Mapping[str, str] | None = None) -> None:
        self.server = server
        self._settings = dict(settings or {})
        self.redis = PrivateRedis(appendonly="yes", appendfsync="no")
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start `taskmill COMMAND`; its output goes to a file of that name."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TASKMILL_")}
        with self.log(name).open("wb") as output:
            self.processes[name] = subprocess.Popen(
                [str(TASKMILL), command[0], str(self.server), "--redis-url", self.redis.url, *command[1:]],
                env=environment | self._settings,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return self.processes[name]

    def replica(self, name: str, port: int = 0) -> str:
        """Start a replica, on a free port unless told which; its address once it answers."""
        self.start(name, "serve", "--port", str(port))
        return eventually(lambda: self.address(name))

    def worker(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        """Start a worker and wait until it works."""
        process = self.start(name, "worker", *options)
        eventually(lambda: "worker.started" in self.log(name).read_text())
        return process

    def log(self, name: str) -> Path:
        """Where a process writes."""
        return self.folder / f"{name}.log"

    def address(self, name: str) -> str:
        """Where a replica that was started answers; empty until it does."""
        assert self.processes[name].poll() is None, self.log(name).read_text()
        found = re.search(r"http://127\.0\.0\.1:\d+/mcp", self.log(name).read_text())
        return found[0] if found else ""

    def __enter__(self) -> Self:
        self.redis.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        self.redis.stop()
