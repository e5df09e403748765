"""The small process that owns the embedded Redis: it starts it, brings it back, and ends it after the last user.

It outlives the command that started it, so it runs by file name on the standard library alone and imports nothing of
Taskmill. Who uses the server, and which program it is, is decided elsewhere; the names of the files in the data
directory are here because both sides need them.

Each lock is a `flock`, which the kernel drops with its last holder however that one dies:

    users.lock      shared, held by each user; the supervisor gets it exclusively only when there is no user
    supervisor.lock exclusive, the supervisor; a second supervisor finds it taken and goes
    server.lock     exclusive, opened by the supervisor and inherited by redis-server, so that two servers never write
                    the same data even when the supervisor was killed and its server is still on the way out
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["SERVER_LOG", "SOCKET", "SUPERVISOR_LOCK", "USERS_LOCK", "ask", "is_same_file", "main", "take_lock"]

USERS_LOCK = "users.lock"
SUPERVISOR_LOCK = "supervisor.lock"
SERVER_LOCK = "server.lock"
SOCKET = "redis.sock"
SERVER_LOG = "redis.log"

# appendfsync is "no" and the supervisor does the fsync, because "everysec" has a hole: while its own fsync is under way
# Redis answers before it has handed the write to the kernel (flushAppendOnlyFile postpones it for up to two seconds),
# and a server killed just then forgets what it acknowledged. With "no" each write precedes its reply.
# The end of a rewrite stops Redis for an fsync, 40 ms and more where much has been written, and its start for a fork:
# at the usual 64 MB a burst of large calls meets several. 256 MB are read in a few seconds at the next start.
_CONFIG = f"""\
port 0
unixsocket {SOCKET}
unixsocketperm 600
daemonize no
logfile {SERVER_LOG}
appendonly yes
appendfsync no
aof-load-truncated yes
save ""
auto-aof-rewrite-min-size 256mb
maxmemory-policy noeviction
"""
_POLL = 0.1
_STARTING_POLL = 0.01
_SYNC_EVERY = 1.0
_STOP_GRACE = 30.0
_ANSWER_TIMEOUT = 30.0
_PR_SET_PDEATHSIG = 1


def ask(path: str, command: bytes, timeout: float = 1.0) -> bytes:
    """The reply to one inline command, raw; empty when no server answers within `timeout` seconds."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(path)
            connection.sendall(command + b"\r\n")
            return connection.recv(65536)
    except OSError:
        return b""


def take_lock(path: str | Path, how: int, timeout: float = 0.0) -> int | None:
    """A descriptor with the lock on it, or None when it stayed taken for `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            # A lock on a file that was removed meanwhile keeps no one out.
            if is_same_file(path, descriptor):
                return descriptor
        except BlockingIOError:
            pass
        os.close(descriptor)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.01)


def is_same_file(path: str | Path, descriptor: int) -> bool:
    """Whether `path` still names the open file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def main(directory: str, program: str) -> int:
    """Supervise the server of `directory` unless another supervisor does; returns at once, and a child process goes on.

    Standard output is the answer to the caller: "busy" (another supervisor is there), "serving" (data loaded), or why
    not. It comes in bounded time, but for the loading.
    """
    # Relative names from here on: no directory is too long for a socket.
    os.chdir(directory)
    os.umask(0o077)
    # A terminal or a service manager that signals every process must not end the store under users that drain.
    for unwanted in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(unwanted, lambda *_: None)
    # A user's look at this lock takes it for an instant, hence the timeout.
    own_lock = take_lock(SUPERVISOR_LOCK, fcntl.LOCK_EX, timeout=0.5)
    if own_lock is None:
        _answer("busy")
        return 0
    if os.fork():
        return 0
    os.ftruncate(own_lock, 0)
    os.write(own_lock, str(os.getpid()).encode())
    users = os.open(USERS_LOCK, os.O_RDWR)
    server_lock = _await_end_of_older_server()
    failure = "an older redis-server in this directory does not end" if server_lock is None else ""
    if server_lock is not None:
        failure = _supervise(program, users, server_lock)
    _answer(failure or "ended")
    return 3 if failure else 0


def _answer(answer: str) -> None:
    """Answer the caller and let go of its pipe; later answers go nowhere."""
    with contextlib.suppress(OSError):
        os.write(1, answer.encode())
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _await_end_of_older_server() -> int | None:
    """The server lock, once the server of a killed supervisor has gone."""
    lock = take_lock(SERVER_LOCK, fcntl.LOCK_EX, timeout=0.5)
    if lock is None:
        # Where the kernel does not end a server with its supervisor, we do.
        ask(SOCKET, b"SHUTDOWN")
        lock = take_lock(SERVER_LOCK, fcntl.LOCK_EX, timeout=_STOP_GRACE)
    return lock


def _supervise(program: str, users: int, server_lock: int) -> str:
    """Keep one server up until there is no user; returns why that failed, or nothing."""
    synced: dict[str, int] = {}
    while not _has_no_users(users):
        server = _start(program, server_lock)
        try:
            failure = _wait_for_answer(server, users)
            if failure:
                return f"{program} {failure}"
            _answer("serving")
            next_sync = 0.0
            while server.poll() is None and not _has_no_users(users):
                if time.monotonic() >= next_sync:
                    _sync(synced)
                    next_sync = time.monotonic() + _SYNC_EVERY
                time.sleep(_POLL)
        finally:
            _stop(server)
    return ""


def _wait_for_answer(server: subprocess.Popen[bytes], users: int) -> str:
    """Wait until the data is loaded or there is no user; returns what went wrong, or nothing."""
    deadline = time.monotonic() + _ANSWER_TIMEOUT
    while not _has_no_users(users):
        if server.poll() is not None:
            return f"ended with code {server.returncode} before it could serve"
        reply = ask(SOCKET, b"PING")
        if reply.startswith(b"-LOADING"):
            deadline = time.monotonic() + _ANSWER_TIMEOUT
        elif reply:
            return ""
        elif time.monotonic() > deadline:
            return f"did not answer within {_ANSWER_TIMEOUT:.0f} s"
        time.sleep(_STARTING_POLL)
    return ""


def _has_no_users(users: int) -> bool:
    # A removed users.lock means that the directory was wiped: what this server holds has no place any more.
    if not is_same_file(USERS_LOCK, users):
        return True
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start(program: str, server_lock: int) -> subprocess.Popen[bytes]:
    server = subprocess.Popen(
        [program, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=(server_lock,),
        preexec_fn=_ends_with_parent(os.getpid()),
    )
    assert server.stdin is not None
    with contextlib.suppress(BrokenPipeError), server.stdin:
        server.stdin.write(_CONFIG.encode())
    return server


def _ends_with_parent(supervisor: int) -> Callable[[], None] | None:
    """What the new process does before it becomes the server, so that a killed supervisor leaves none behind."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)

    def tie() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != supervisor:
            os._exit(1)

    return tie


def _stop(server: subprocess.Popen[bytes]) -> None:
    # On SIGTERM Redis writes and syncs its append-only file before it goes.
    server.terminate()
    try:
        server.wait(_STOP_GRACE)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _sync(synced: dict[str, int]) -> None:
    """Put what Redis has appended since the last time on disk; `synced` maps a file to its size then."""
    # Redis 7 keeps several files in a directory, 6.2 has one.
    for path in [Path("appendonly.aof"), *Path("appendonlydir").glob("*.aof")]:
        with contextlib.suppress(FileNotFoundError), path.open("rb") as appended:
            size = os.fstat(appended.fileno()).st_size
            if synced.get(path.name) != size:
                getattr(os, "fdatasync", os.fsync)(appended.fileno())
                synced[path.name] = size


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
