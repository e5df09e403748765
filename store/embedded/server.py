"""The embedded Redis: a real server in a private directory that lives exactly as long as a process uses it.

Here is the user's side: prepare the directory, see to it that a supervisor is there, wait for the server. Keeping the
server up and ending it is the supervisor's (`supervisor.py`); a Redis of the operator's own is not our business at all.
"""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from taskmill.engine.errors import OperatorError, SettingsError
from taskmill.store.embedded import supervisor
from taskmill.store.embedded.binary import find_server
from taskmill.store.embedded.socket_path import socket_path
from taskmill.store.embedded.stored_data import stored_data
from taskmill.store.embedded.user_lock import UserLock, is_supervised

__all__ = ["EmbeddedRedis", "ServerDidNotStart", "embedded_redis"]

_log = structlog.get_logger(__name__)

# Seconds without progress after which a start has failed; longer than a supervisor takes to end an unwilling server.
_START_TIMEOUT = 40.0
_CHECK_EVERY = 1.0
_SUPERVISOR_LOG = "supervisor.log"


class ServerDidNotStart(OperatorError):
    """The embedded Redis server did not start."""


class EmbeddedRedis:
    """One user of the Redis server of a directory; the first user starts it, the last one ends it.

    Blocking, for milliseconds as a rule; a caller on an event loop uses a thread. Until `stop` a thread brings
    the server back when it or its supervisor was killed: clients see a dropped connection, then the same data.
    """

    def __init__(self, directory: Path = Path(".taskmill")) -> None:
        """`directory` is made (0700) if need be, and keeps the data after the server has ended."""
        # Absolute at once: a later chdir must not move it.
        self._directory = directory.absolute()
        self._lock = UserLock(self._directory)
        self._stopping = threading.Event()
        self._monitor: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where the server listens, for redis-py and arq alike."""
        return f"unix://{socket_path(self._directory)}?db=0"

    @property
    def pid(self) -> int | None:
        """The server's process id, None while it is down."""
        info = supervisor.ask(socket_path(self._directory), b"INFO server")
        found = re.search(rb"process_id:(\d+)", info)
        return int(found[1]) if found else None

    def start(self) -> str:
        """Join the server of the directory, starting it if there is none; returns its URL once it answers.

        Raises:
            NoRedisServer: there is no server program on this machine.
            SettingsError: the directory cannot be used.
            ServerDidNotStart: the server ended or kept silent; the message has the end of its log.
        """
        if not self._lock.is_held:
            try:
                self._take_lock()
                self._wait_for_server()
            except BaseException:
                self._lock.release()
                raise
            self._stopping = threading.Event()
            self._monitor = threading.Thread(
                target=self._keep_up, args=(self._stopping,), name="taskmill-embedded-redis", daemon=True
            )
            self._monitor.start()
        return self.url

    def stop(self, wait: float = 5.0) -> None:
        """Stop being a user; the last one to go waits up to `wait` seconds for the server to end."""
        if not self._lock.is_held:
            return
        self._stopping.set()
        self._lock.release()
        deadline = time.monotonic() + wait
        while is_supervised(self._directory) and self._lock.has_no_users() and time.monotonic() < deadline:
            time.sleep(0.02)
        if self._monitor is not None:
            self._monitor.join(timeout=wait)

    def ensure(self) -> None:
        """Bring back what has died under a living user; costs two file look-ups while all is well.

        Raises:
            OperatorError: it cannot be brought back, for the reasons that `start` gives.
        """
        if not self._lock.is_held:
            return
        if self._lock.is_stale:
            # The tasks in the wiped directory are gone; new ones need a place.
            _prepare(self._directory)
            self._lock.renew()
        # Temporary directories are swept; asking for the path puts the link back.
        socket_path(self._directory)
        if not is_supervised(self._directory):
            self._launch_supervisor()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _take_lock(self) -> None:
        _prepare(self._directory)
        deadline = time.monotonic() + _START_TIMEOUT
        try:
            while not self._lock.take():
                if time.monotonic() > deadline:
                    raise self._did_not_start("the server of earlier users is still shutting down")
                time.sleep(0.02)
        except OSError as error:
            raise _unusable(self._directory, error) from error

    def _wait_for_server(self) -> None:
        path = socket_path(self._directory)
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            if not is_supervised(self._directory):
                self._launch_supervisor()
            reply = supervisor.ask(path, b"PING")
            if reply.startswith(b"+PONG"):
                return
            if reply.startswith(b"-LOADING"):
                deadline = time.monotonic() + _START_TIMEOUT
            elif time.monotonic() > deadline:
                raise self._did_not_start(f"it answers {reply.decode(errors='replace').strip() or 'nothing'}")
            time.sleep(0.02)

    def _launch_supervisor(self) -> None:
        program = find_server(stored_data(self._directory))
        # By file, isolated and without site-packages: nothing in the user's directory or environment gets between.
        command = [sys.executable, "-I", "-S", supervisor.__file__, str(self._directory), str(program)]
        log = os.open(self._directory / _SUPERVISOR_LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            # No time limit: the answer comes in bounded time, but for the loading, which may take minutes.
            launched = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                check=False,
            )
        finally:
            os.close(log)
        answer = launched.stdout.decode(errors="replace")
        if answer not in ("busy", "serving"):
            raise self._did_not_start(answer or "its supervisor failed")

    def _did_not_start(self, reason: str) -> ServerDidNotStart:
        log_ends = ""
        for name in (supervisor.SERVER_LOG, _SUPERVISOR_LOG):
            with contextlib.suppress(OSError):
                lines = (self._directory / name).read_text(errors="replace").splitlines()[-12:]
                log_ends += "".join(f"\n  {name}: {line}" for line in lines)
        return ServerDidNotStart(
            f"The embedded Redis server in {self._directory} did not start: {reason}.{log_ends}\n"
            "Correct what it names, choose another data directory with TASKMILL_HOME, or set TASKMILL_REDIS_URL.",
            directory=str(self._directory),
        )

    def _keep_up(self, stopping: threading.Event) -> None:
        logged = ""
        while not stopping.wait(_CHECK_EVERY):
            try:
                self.ensure()
                logged = ""
            except (OperatorError, OSError) as error:
                # Once a fault, not once a second.
                if str(error) != logged and not stopping.is_set():
                    logged = str(error)
                    _log.error("embedded.down", directory=str(self._directory), reason=logged)


def _prepare(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
    except OSError as error:
        raise _unusable(directory, error) from error
    if os.geteuid() not in (found.st_uid, 0) or found.st_mode & 0o022:
        raise SettingsError(
            f"Others may write to {directory}, so they could read and forge tasks. Make it private "
            f"(`chmod 700 {directory}`, owned by you), or choose another data directory with TASKMILL_HOME."
        )
    with contextlib.suppress(OSError), (directory / ".gitignore").open("x") as ignore:
        ignore.write("*\n")


def _unusable(directory: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"{directory} cannot hold the embedded Redis: {error.strerror or error}. Choose another data directory with "
        "TASKMILL_HOME, or set TASKMILL_REDIS_URL to a Redis of your own."
    )


@contextlib.asynccontextmanager
async def embedded_redis(directory: Path) -> AsyncIterator[str]:
    """Use the server of a directory in an event loop; its URL.

    Raises:
        NoRedisServer, SettingsError, ServerDidNotStart: see `EmbeddedRedis.start`.
    """
    redis = EmbeddedRedis(directory)
    url = await asyncio.to_thread(redis.start)
    try:
        yield url
    finally:
        await asyncio.to_thread(redis.stop)
