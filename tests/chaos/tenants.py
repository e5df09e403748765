"""Two tenants on one deployment (`taskmill run`, with its own Redis): one floods, the other's calls are measured.

The flood comes from a process of its own, with a token of its own; what it gets in reply is counted by status.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tests.support.redis_server import free_port
from tests.support.replica import Rpc

__all__ = ["Measured", "main", "measure"]

SERVER = """
import asyncio
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver.exceptions import ToolError
from taskmill import TaskServer


class Tokens:
    async def verify_token(self, token):
        return AccessToken(token=token, client_id="app", scopes=[], subject=token, claims={"iss": "tenants"})


auth = AuthSettings.model_validate(
    {
        "issuer_url": "http://127.0.0.1:1",
        "resource_server_url": "http://127.0.0.1:2/mcp",
        "validate_token_resource": False,
    }
)
mcp = TaskServer("tenants", token_verifier=Tokens(), auth=auth)


@mcp.tool(task=True)
async def echo(text: str) -> str:
    return text


@mcp.tool(task=True)
async def fail(text: str) -> str:
    raise ToolError("no")


@mcp.tool(task=True)
async def long() -> str:
    await asyncio.sleep(25)
    return "done"
"""
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "flood", "version": "1"}},
}


@dataclass
class Measured:
    """What one tenant saw."""

    calls: list[float] = field(default_factory=list)
    """Seconds from the call to its result."""
    health: list[float] = field(default_factory=list)
    """Seconds of `/healthz`."""
    refused: list[str] = field(default_factory=list)

    def p99(self, times: list[float]) -> float:
        """In seconds."""
        return sorted(times)[min(len(times) - 1, int(0.99 * len(times)))]

    def line(self, name: str) -> str:
        """For people."""
        middle = sorted(self.calls)[len(self.calls) // 2]
        calls = f"{len(self.calls)} calls, p50 {middle * 1000:.0f} ms, p99 {self.p99(self.calls) * 1000:.0f} ms"
        health = f"/healthz p99 {self.p99(self.health) * 1000:.0f} ms, longest {max(self.health) * 1000:.0f} ms"
        return f"{name}: {calls}; {health}; {len(self.refused)} refused"


async def measure(url: str, seconds: float) -> Measured:
    """Calls of a well-behaved tenant, one after the other, and `/healthz` beside them."""
    seen, end = Measured(), time.monotonic() + seconds
    async with httpx2.AsyncClient(timeout=60, headers={"authorization": "Bearer bob"}) as http:
        rpc = Rpc(http, url)

        async def watch_health() -> None:
            while time.monotonic() < end:
                began = time.monotonic()
                await http.get(url.replace("/mcp", "/healthz"))
                seen.health.append(time.monotonic() - began)
                await asyncio.sleep(0.1)

        async def call() -> None:
            while time.monotonic() < end:
                began = time.monotonic()
                reply = await rpc.call("echo", text="hello")
                if "error" in reply:
                    seen.refused.append(str(reply["error"]))
                else:
                    await rpc.done(reply["result"]["taskId"])
                    seen.calls.append(time.monotonic() - began)
                await asyncio.sleep(0.05)

        await asyncio.gather(watch_health(), call())
    return seen


async def flood(url: str, seconds: float) -> Counter[str]:
    """Everything at once, as one caller; what was replied, by kind and status."""
    seen: Counter[str] = Counter()
    port = int(url.rsplit(":", 1)[1].split("/")[0])
    limits = httpx2.Limits(max_connections=200)
    async with httpx2.AsyncClient(timeout=60, headers={"authorization": "Bearer ada"}, limits=limits) as http:
        rpc = Rpc(http, url)

        async def post(kind: str, method: str, params: dict[str, Any], name: str | None) -> None:
            reply = await rpc.post(method, params, name=name)
            error = reply.json().get("error", {}) if "json" in reply.headers["content-type"] else {}
            seen[f"{kind} {error.get('data', {}).get('limit') or error.get('code') or reply.status_code}"] += 1

        def calling(kind: str, tool: str, **arguments: Any) -> Callable[[], Awaitable[None]]:
            return lambda: post(kind, "tools/call", {"name": tool, "arguments": arguments}, tool)

        async def sessions() -> None:
            accept = {"accept": "application/json, text/event-stream"}
            reply = await http.post(url, json=INITIALIZE, headers=accept)
            seen[f"sessions {reply.status_code}"] += 1

        async def headers() -> None:
            reply = await http.get(url, headers={f"x-{number}": "1" for number in range(2000)})
            seen[f"headers {reply.status_code}"] += 1

        async def streams() -> None:
            async with rpc.listen(taskIds=["x"]) as frames:
                async for _ in frames:
                    seen["streams opened"] += 1
            seen["streams closed"] += 1

        async def slow_body() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n{")
            seen[f"slow bodies {(await reader.read(100)).split(b' ')[1:2]}"] += 1
            writer.close()

        kinds: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (4, calling("creations", "echo", text="x")),
            (2, calling("bytes", "fail", text="x" * 900_000)),
            (2, calling("long", "long")),
            (2, sessions),
            (1, headers),
            (40, streams),
            (40, slow_body),
        ]
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(_again(what) for count, what in kinds for _ in range(count)))
    return seen


async def _again(what: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await what()
        except (httpx2.HTTPError, OSError, ValueError, LookupError):
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.005)


@contextmanager
def deployed(folder: Path) -> Iterator[str]:
    """A server with its worker and its Redis; the address of its endpoint."""
    (folder / "server.py").write_text(SERVER)
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TASKMILL_")}
    command = [str(Path(sys.executable).with_name("taskmill")), "run", "server.py", "--port", str(port)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError, httpx2.HTTPError):
                if httpx2.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError((folder / "log").read_text()[-2000:])
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait(60)


def compared(url: str, seconds: float) -> tuple[Measured, Measured, str]:
    """What the tenant saw alone, and beside the flood; what the flood was answered."""
    alone = asyncio.run(measure(url, min(seconds, 60)))  # in 20 s, p99 is the fourth slowest call, and varies by two
    command = [sys.executable, "-m", "tests.chaos.tenants", "--flood", url, "--minutes", str(seconds / 60)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        beside = asyncio.run(measure(url, seconds))
        said, _ = other.communicate(timeout=120)
    return alone, beside, said


def main(arguments: list[str]) -> int:
    """The exit code: 0 if the promise holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--times", type=float, default=3, help="how much slower the calls may be")
    parser.add_argument("--flood", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.flood:
        os.nice(5)
        print(json.dumps(asyncio.run(flood(options.flood, options.minutes * 60)), indent=1, sort_keys=True))
        return 0
    with tempfile.TemporaryDirectory() as folder, deployed(Path(folder)) as url:
        alone, beside, said = compared(url, options.minutes * 60)
    print(alone.line("alone"), beside.line("beside"), f"the flood was answered:\n{said}", sep="\n")
    times = beside.p99(beside.calls) / alone.p99(alone.calls)
    faults = [f"refused: {beside.refused[:3]}"] if beside.refused else []
    faults += [f"p99 {times:.1f} times that of alone"] if times > options.times else []
    slow = beside.p99(beside.health)
    faults += [f"/healthz took {slow * 1000:.0f} ms"] if slow > 0.1 * options.times / 3 else []
    print(f"p99 beside / alone: {times:.2f}.", *faults or ["The promise holds."])
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
