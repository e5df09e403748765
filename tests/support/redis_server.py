"""A private Redis for tests: a real server on a unix socket in a directory of its own, with any configuration.

It is what an operator would run; the embedded server, with its users and supervisor, has tests of its own.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from taskmill.store.embedded.binary import find_server
from tests.support.movable_clock import MovableClock

__all__ = ["PrivateRedis", "SentinelServer", "free_port", "listens"]


def free_port() -> int:
    """A port that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether a process listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class PrivateRedis:
    """Keywords are Redis settings, `appendonly="yes"`; data outlives `kill` and `start`, and goes with `stop`.

    `movable`: its clock can be moved.
    """

    def __init__(self, *, movable: bool = False, **settings: str) -> None:
        self.port = int(settings.get("port", "0"))
        """Where it also listens on TCP, 0 = nowhere."""
        # Not pytest's tmp_path: a socket's path has room for some 100 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="redis-"))
        self.url = f"unix://{self.directory}/redis.sock?db=0"
        self.process: subprocess.Popen[bytes] | None = None
        self.clock = MovableClock(self.directory) if movable else None
        defaults = {"port": "0", "save": '""', "appendonly": "no", "maxmemory_policy": "noeviction"}
        fixed = {"unixsocket": "redis.sock", "logfile": "redis.log", "daemonize": "no"}
        self._settings = defaults | settings | fixed

    @property
    def append_only_file(self) -> Path:
        """What the server appends to now: from 7.0 on it lies in a folder, beside those that are complete."""
        found = [*self.directory.glob("*.aof"), *self.directory.glob("appendonlydir/*.aof")]
        return max(found, key=lambda file: file.stat().st_mtime)

    def start(self) -> None:
        """Start the server and wait until its data is loaded."""
        self.launch()
        self.wait()

    def wait(self) -> None:
        """Wait until the server that was launched has loaded its data."""
        deadline = time.monotonic() + 30
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.BusyLoadingError:
                    deadline = time.monotonic() + 30  # a long file on a busy machine
                except redis.ConnectionError:
                    if time.monotonic() > deadline or self.process is None or self.process.poll() is not None:
                        self.kill()
                        raise AssertionError(f"no Redis:\n{(self.directory / 'redis.log').read_text()}") from None
                time.sleep(0.01)

    def launch(self) -> None:
        """Start the server and do not wait."""
        lines = "".join(f"{name.replace('_', '-')} {value}\n" for name, value in self._settings.items())
        self.process = subprocess.Popen(
            [find_server(), "-"],
            cwd=self.directory,
            env=os.environ | (self.clock.environment if self.clock else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        assert self.process.stdin is not None
        with self.process.stdin as config:
            config.write(lines.encode())

    def kill(self) -> None:
        """End the server the hard way, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """End the server and remove its data."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class SentinelServer:
    """One real Sentinel that decides alone, half a second after the primary fell silent."""

    def __init__(self, primary_port: int, name: str = "taskmill") -> None:
        self.port = free_port()
        self.url = f"redis+sentinel://127.0.0.1:{self.port}/{name}"
        self._name = name
        self._primary_port = primary_port
        self._directory = Path(tempfile.mkdtemp(prefix="sentinel-"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        file = self._directory / "sentinel.conf"
        lines = (
            f"port {self.port}",
            "logfile sentinel.log",
            f"sentinel monitor {self._name} 127.0.0.1 {self._primary_port} 1",
            f"sentinel down-after-milliseconds {self._name} 500",
            f"sentinel failover-timeout {self._name} 3000",
        )
        file.write_text("\n".join(lines) + "\n")
        self._process = subprocess.Popen(
            [find_server(), file.name, "--sentinel"], cwd=self._directory, stdout=subprocess.DEVNULL
        )
        self.wait_for_replicas(1)
        return self

    def wait_for_replicas(self, number: int) -> None:
        """Return once the Sentinel knows so many replicas: before that it can promote none."""
        deadline = time.monotonic() + 30
        with redis.Redis(port=self.port) as client:
            while True:
                with suppress(redis.ConnectionError, redis.ResponseError):
                    replicas = client.sentinel_slaves(self._name)
                    if len([one for one in replicas if not one["is_disconnected"]]) >= number:
                        return
                if time.monotonic() > deadline:
                    raise AssertionError((self._directory / "sentinel.log").read_text())
                time.sleep(0.02)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)
