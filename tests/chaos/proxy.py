"""Stands between processes and Redis and cuts connections: before a command reaches Redis, or after it has run there
and before its reply comes back. A program of its own, with addresses and rate as arguments; after SIGUSR1 it leaves
everybody alone.

It knows as much RESP as it needs for whole commands and whole replies. A connection that subscribes or waits is cut
only between two messages.
"""

import argparse
import asyncio
import random
import signal
from pathlib import Path

import hiredis

from tests.chaos.journal import Journal

__all__: list[str] = []

LASTING = (b"SUBSCRIBE", b"PSUBSCRIBE", b"BLPOP", b"UNSUBSCRIBE")


class Proxy:
    """`rate`: the part of commands at which a connection is cut."""

    def __init__(self, upstream: str, rate: float, seed: int, journal: Journal) -> None:
        self._upstream = upstream
        self._rate = rate
        self._random = random.Random(seed)
        self._journal = journal
        self._connections: set[asyncio.Task[None] | None] = set()
        """Held here: a side that waits for a cut is known to no one else, and would be collected as garbage."""

    def calm(self) -> None:
        self._rate = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it or it is cut."""
        connection = asyncio.current_task()
        self._connections.add(connection)
        try:
            await self._pass_on(reader, writer)
        finally:
            self._connections.discard(connection)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_unix_connection(self._upstream)
        except OSError:
            writer.close()
            return
        wire = _Wire(self, writer, up_writer)
        sides = [asyncio.create_task(wire.commands(reader)), asyncio.create_task(wire.replies(up_reader))]
        await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
        for side in sides:
            side.cancel()
        await asyncio.gather(*sides, return_exceptions=True)
        for each in (writer, up_writer):
            each.transport.abort()

    def fate(self, command: bytes) -> str:
        """What happens at this command: nothing, or a cut before or after it."""
        if self._random.random() >= self._rate:
            return ""
        cut = "before" if command in LASTING else self._random.choice(["before", "after"])
        self._journal.note("cut", cut, command.decode())
        return cut


class _Wire:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, down: asyncio.StreamWriter, up: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._down = down
        self._up = up
        self._sent = 0
        self._answered = 0
        self._cut_at: int | None = None
        """Number of the command whose reply must not come back."""

    async def commands(self, reader: asyncio.StreamReader) -> None:
        """From the client to Redis; returns when the connection is to be cut."""
        parser = hiredis.Reader()
        while data := await reader.read(1 << 16):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                fate = self._proxy.fate(command[0].upper())
                if fate == "before":
                    return
                self._up.write(_packed(command))
                self._sent += 1
                if fate == "after":
                    self._cut_at = self._sent
                    await asyncio.Event().wait()  # the other side cuts, once Redis has answered
            await self._up.drain()

    async def replies(self, reader: asyncio.StreamReader) -> None:
        """From Redis to the client; returns when the connection is to be cut."""
        parser = hiredis.Reader()
        while data := await reader.read(1 << 16):
            parser.feed(data)
            while parser.gets() is not False:
                self._answered += 1
            if self._cut_at is not None and self._answered >= self._cut_at:
                return
            self._down.write(data)
            await self._down.drain()


def _packed(command: list[bytes]) -> bytes:
    words = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in command)
    return b"*%d\r\n%s" % (len(command), words)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("listen", type=Path)
    parser.add_argument("upstream")
    parser.add_argument("journal", type=Path)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    proxy = Proxy(options.upstream, options.rate, options.seed, Journal(options.journal))
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, proxy.calm)
    async with await asyncio.start_unix_server(proxy.serve, options.listen) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
