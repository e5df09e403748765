"""Many readers of event streams in one process: PORT TASKS COUNT SECONDS, tasks by id and separated by commas.

Each follower reads the stream of one task. Notes `following` once all are open, and in the end `followed`: how many
events came, how many were missed, and the lag from a report in the tool to its arrival here, p50 and p99, in ms.
"""

import asyncio
import re
import sys
import time
from typing import Any

import uvloop
from journal import note

_EVENT = re.compile(rb"^id: (\d+)\r?$", re.MULTILINE)
_SENT = re.compile(rb'"message":"tick (\d+)"')
_AT_ONCE = 50


class Follower(asyncio.Protocol):
    """One open stream."""

    def __init__(self, request: bytes) -> None:
        self.times: list[tuple[int, int]] = []
        """When each event was reported and when it came, nanoseconds."""
        self.last = 0
        self.missed = 0
        self.heard = asyncio.get_running_loop().create_future()
        self._request = request
        self._rest = b""

    def connection_made(self, transport: Any) -> None:
        """Ask for the stream."""
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count the events in whole blocks of text; what is left waits for the rest of its block."""
        now = time.monotonic_ns()
        block, end, self._rest = (self._rest + data).rpartition(b"\r\n\r\n")
        if not end:
            return
        for number in map(int, _EVENT.findall(block)):
            self.missed += number - self.last - 1
            self.last = number
        self.times += [(int(sent), now) for sent in _SENT.findall(block)]
        if not self.heard.done():
            self.heard.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The server ended the stream, which no task here gives it a reason to."""
        if not self.heard.done():
            self.heard.set_exception(exc or ConnectionResetError("the server closed the stream"))


async def follow(port: int, tasks: list[str], count: int, seconds: float) -> None:
    """Open everything, then listen."""
    loop, followers = asyncio.get_running_loop(), list[Follower]()
    for first in range(0, count, _AT_ONCE):
        opened = []
        for at in range(first, min(first + _AT_ONCE, count)):
            head = f"GET /api/tasks/{tasks[at % len(tasks)]}/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
            _, follower = await loop.create_connection(lambda head=head: Follower(head.encode()), "127.0.0.1", port)
            opened.append(follower)
        await asyncio.gather(*(follower.heard for follower in opened))
        followers += opened
    note("following", len(followers))
    begun = time.monotonic_ns()  # what was reported before all listened tells how fast they connect
    await asyncio.sleep(seconds)
    times = (pair for follower in followers for pair in follower.times)
    lags = sorted((came - sent) / 1e6 for sent, came in times if sent >= begun)
    missed = sum(follower.missed for follower in followers)
    note("followed", len(lags), missed, lags[len(lags) // 2], lags[int(len(lags) * 0.99)])


if __name__ == "__main__":
    port, tasks, count, seconds = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(follow(int(port), tasks.split(","), int(count), float(seconds)))
