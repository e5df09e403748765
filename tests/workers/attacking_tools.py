"""A server whose tools attack what is around them, each in a process of its own. They report what they got."""

import asyncio
import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from taskmill.server import Context, TaskConfig, TaskServer

Ctx = Context[Any, Any]
mcp = TaskServer("Attacks")
ISOLATED = TaskConfig(isolation="process")
MIB = 1024 * 1024
PTRACE_SEIZE = 0x4206
seen: list[str] = []
"""What earlier calls left in this process."""


def attempt(what: Any) -> str:
    """What it returns, as text, or the name of its error."""
    try:
        return str(what())
    except OSError as exc:
        return type(exc).__name__


def ancestors() -> list[int]:
    found, pid = [], os.getppid()
    while pid > 1:
        found.append(pid)
        stat = Path(f"/proc/{pid}/stat").read_text()
        pid = int(stat.rpartition(")")[2].split()[1])
    return found


def opened(kind: str) -> list[str]:
    """The open descriptors of a kind."""
    names = os.listdir("/proc/self/fd")
    links = [attempt(lambda name=name: os.readlink(f"/proc/self/fd/{name}")) for name in names]
    return [link for link in links if kind in link]


@mcp.tool(task=ISOLATED)
def spy(secret: str, victims: list[int]) -> dict[str, Any]:
    """Looks for a secret in its environment and in all processes, and for a way into the victims."""
    places = []
    for process in Path("/proc").glob("[0-9]*"):
        for file in ("environ", "cmdline"):
            with suppress(OSError):
                if int(process.name) in [os.getpid(), *victims, *ancestors()[:2]]:
                    places += [file] * (secret.encode() in (process / file).read_bytes())
    libc = ctypes.CDLL(None, use_errno=True)
    return {
        "own": sorted(name for name, value in os.environ.items() if secret in value or name.startswith("TASKMILL_")),
        "mine": os.environ.get("MY_OWN"),
        "places": sorted(places),
        "memory": [attempt(lambda pid=pid: open(f"/proc/{pid}/mem", "rb").close()) for pid in victims],
        "descriptors": [attempt(lambda pid=pid: os.readlink(f"/proc/{pid}/fd/0")) for pid in victims],
        "traced": [libc.ptrace(PTRACE_SEIZE, pid, None, None) for pid in victims],
        "signalled": [attempt(lambda pid=pid: os.kill(pid, 0)) for pid in victims],
        "sockets": opened("socket:"),
        "pipes": opened("pipe:"),
        "privileged": int(Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0], 16) >> 21 & 1,
    }


@mcp.tool(task=ISOLATED)
def remember(word: str) -> list[str]:
    """What earlier calls said in this process, then this one's process."""
    found = list(seen)
    seen.append(word)
    return [*found, str(os.getpid())]


@mcp.tool(task=TaskConfig(isolation="process", reuse="any"))
def remember_for_all(word: str) -> list[str]:
    """The same, in a process for every caller."""
    return remember(word)


@mcp.tool(task=TaskConfig(isolation="process", reuse="never"))
def remember_nothing(word: str) -> list[str]:
    """The same, in a process that is used once."""
    return remember(word)


DETACHED = """
import os, sys, time
if os.fork() or os.setsid() is None and os.fork():
    os._exit(0)
open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
time.sleep(600)
"""


@mcp.tool(task=ISOLATED)
async def leave_detached(pids: str, then: str, ctx: Ctx) -> str:
    """Starts a process that leaves its session and its parent; then returns, waits, or dies."""
    subprocess.run([sys.executable, "-c", DETACHED, pids], check=True)
    while not (os.path.exists(pids) and Path(pids).read_text().endswith("\n")):
        await asyncio.sleep(0.01)
    if then == "wait":
        await asyncio.sleep(600)
    return "left"


@mcp.tool(task=TaskConfig(isolation="process", cpu_limit=0.5))
def burn() -> None:
    """Uses the processor, by processes that it starts one after the other."""
    while True:
        subprocess.run([sys.executable, "-S", "-c", "for _ in range(1_000_000): pass"], check=True)


@mcp.tool(task=TaskConfig(isolation="process", process_limit=3))
def multiply(count: int) -> str:
    """Starts processes that sleep."""
    started = [subprocess.Popen(["sleep", "600"], start_new_session=True) for _ in range(count)]
    time.sleep(0.5)
    for process in started:
        process.kill()
        process.wait()
    return "multiplied"


@mcp.tool(task=TaskConfig(isolation="process", open_file_limit=64))
def open_files(raised: bool) -> None:
    """Opens files; before that, tries to raise the limit."""
    if raised:
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    held = []
    while True:
        held.append(os.open(os.devnull, os.O_RDONLY))


@mcp.tool(task=TaskConfig(isolation="process", file_size_limit=MIB))
def write(path: str, size: int) -> str:
    """Writes a file."""
    Path(path).write_bytes(b"x" * size)
    return "written"


@mcp.tool(task=TaskConfig(isolation="process", memory_limit=200 * MIB))
def hoard(how: str) -> None:
    """Takes memory beyond its limit: after it has raised the limit, or in processes that it starts."""
    if how == "raised":
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    program = "held = b'x' * (90 << 20); import time; time.sleep(600)"
    held = [subprocess.Popen([sys.executable, "-c", program], start_new_session=True) for _ in range(4)]
    time.sleep(600)
    del held


@mcp.tool(task=ISOLATED)
def garble(body: str) -> None:
    """Writes to its worker what is no message of a tool process, and waits."""
    channel = socket.socket(fileno=int(sys.argv[2]))
    channel.sendall(len(body).to_bytes(4, "big") + body.encode())
    threading.Event().wait(600)


@mcp.tool(task=ISOLATED)
def kill_parent() -> str:
    """Tries to end the process that started this one."""
    os.kill(os.getppid(), signal.SIGKILL)
    return "killed"


@mcp.tool(task=ISOLATED)
def reach(path: str, file: str) -> dict[str, str]:
    """Connects to a socket and to this machine's own addresses, and writes a file."""

    def connect(kind: int, address: Any) -> str:
        with socket.socket(kind) as connection:
            connection.connect(address)
        return "connected"

    return {
        "redis": attempt(lambda: connect(socket.AF_UNIX, path)),
        "interfaces": " ".join(name for _, name in socket.if_nameindex()),
        "file": attempt(lambda: Path(file).touch() or "written"),
        "processes": str(len([name for name in os.listdir("/proc") if name.isdigit()])),
    }
