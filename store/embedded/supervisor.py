"""The small process that owns the embedded Redis: it starts it, brings it back, and ends it after the last user.

It outlives the command that started it, so it runs by file name on the standard library alone and imports nothing of
Taskmill. Who uses the server, and which program it is, is decided elsewhere; the names of the files in the data
directory are here because both sides need them.

Each lock is a `flock`, which the kernel drops with its last holder however that one dies:

    users.lock      shared, one hold a user; the guardian gets it exclusively only when nobody is left
    guardian.lock   exclusive, the guardian; a second guardian finds it taken and goes
    server.lock     exclusive, opened by the guardian and inherited by redis-server, so that two servers never write
                    the same data even when the guardian was killed and its server is still on the way out
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

__all__ = ["GUARDIAN_LOCK", "SERVER_LOG", "SOCKET", "USERS_LOCK", "ask", "hold", "is_same_file", "main"]

USERS_LOCK = "users.lock"
GUARDIAN_LOCK = "guardian.lock"
SERVER_LOCK = "server.lock"
SOCKET = "redis.sock"
SERVER_LOG = "redis.log"

# appendfsync is "no" and the guardian does the fsync, because "everysec" has a hole: while its own fsync is under way
# Redis answers before it has handed the write to the kernel (flushAppendOnlyFile postpones it for up to two seconds),
# and a server killed just then forgets what it acknowledged. With "no" each write precedes its reply.
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
maxmemory-policy noeviction
"""
_POLL = 0.1
_STARTING_POLL = 0.01
_SYNC_EVERY = 1.0
_STOP_GRACE = 30.0
_LONGEST_SILENCE = 30.0
_PR_SET_PDEATHSIG = 1


def ask(path: str, command: bytes, patience: float = 1.0) -> bytes:
    """The reply to one inline command, raw; empty when nobody answers within `patience` seconds."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(patience)
            connection.connect(path)
            connection.sendall(command + b"\r\n")
            return connection.recv(65536)
    except OSError:
        return b""


def hold(path: str | Path, how: int, patience: float = 0.0) -> int | None:
    """A descriptor with the lock on it, or None when it stayed taken for `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            # A lock on a file that was removed meanwhile keeps nobody out.
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
    """Guard `directory` unless somebody does; returns at once, in a process of its own the work goes on.

    Standard output is the answer to the caller: "busy" (another guardian is there), "serving" (data loaded), or why
    not. It comes in bounded time, but for the loading.
    """
    # Relative names from here on: no directory is too long for a socket.
    os.chdir(directory)
    os.umask(0o077)
    # A terminal or a service manager that signals every process must not end the store under users that drain.
    for unwanted in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(unwanted, lambda *_: None)
    # A user's look at this lock takes it for an instant, hence the patience.
    post = hold(GUARDIAN_LOCK, fcntl.LOCK_EX, patience=0.5)
    if post is None:
        _tell("busy")
        return 0
    if os.fork():
        return 0
    os.ftruncate(post, 0)
    os.write(post, str(os.getpid()).encode())
    users = os.open(USERS_LOCK, os.O_RDWR)
    server_lock = _outwait_older_server()
    trouble = "an older redis-server in this directory does not end" if server_lock is None else ""
    if server_lock is not None:
        trouble = _guard(program, users, server_lock)
    _tell(trouble or "ended")
    return 3 if trouble else 0


def _tell(answer: str) -> None:
    """Answer the caller and let go of its pipe; later answers go nowhere."""
    with contextlib.suppress(OSError):
        os.write(1, answer.encode())
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _outwait_older_server() -> int | None:
    """The server lock, once the server of a killed guardian has gone."""
    lock = hold(SERVER_LOCK, fcntl.LOCK_EX, patience=0.5)
    if lock is None:
        # Where the kernel does not end a server with its guardian, we do.
        ask(SOCKET, b"SHUTDOWN")
        lock = hold(SERVER_LOCK, fcntl.LOCK_EX, patience=_STOP_GRACE)
    return lock


def _guard(program: str, users: int, server_lock: int) -> str:
    """Keep one server up until nobody is left; returns why that failed, or nothing."""
    synced: dict[str, int] = {}
    while not _nobody_left(users):
        server = _start(program, server_lock)
        try:
            trouble = _wait_for_answer(server, users)
            if trouble:
                return f"{program} {trouble}"
            _tell("serving")
            next_sync = 0.0
            while server.poll() is None and not _nobody_left(users):
                if time.monotonic() >= next_sync:
                    _sync(synced)
                    next_sync = time.monotonic() + _SYNC_EVERY
                time.sleep(_POLL)
        finally:
            _stop(server)
    return ""


def _wait_for_answer(server: subprocess.Popen[bytes], users: int) -> str:
    """Wait until the data is loaded or nobody is left; returns what went wrong, or nothing."""
    deadline = time.monotonic() + _LONGEST_SILENCE
    while not _nobody_left(users):
        if server.poll() is not None:
            return f"ended with code {server.returncode} before it could serve"
        reply = ask(SOCKET, b"PING")
        if reply.startswith(b"-LOADING"):
            deadline = time.monotonic() + _LONGEST_SILENCE
        elif reply:
            return ""
        elif time.monotonic() > deadline:
            return f"did not answer within {_LONGEST_SILENCE:.0f} s"
        time.sleep(_STARTING_POLL)
    return ""


def _nobody_left(users: int) -> bool:
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
        preexec_fn=_ends_with_guardian(os.getpid()),
    )
    assert server.stdin is not None
    with contextlib.suppress(BrokenPipeError), server.stdin:
        server.stdin.write(_CONFIG.encode())
    return server


def _ends_with_guardian(guardian: int) -> Callable[[], None] | None:
    """What the new process does before it becomes the server, so that a killed guardian leaves none behind."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)

    def tie() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != guardian:
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
