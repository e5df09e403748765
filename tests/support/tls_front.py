"""TLS in front of Redis servers that speak none, as a managed Redis has it. It runs in a thread of its own."""

import asyncio
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["tls_in_front"]


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _serve(
    host: str, targets: Mapping[int, str], context: ssl.SSLContext, ready: threading.Event, over: asyncio.Event
) -> None:
    async def front(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        try:
            back = await asyncio.open_unix_connection(path)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, back[1]), _copy(back[0], writer))

    servers = [
        await asyncio.start_server(lambda r, w, path=path: front(r, w, path), host, port, ssl=context)
        for port, path in targets.items()
    ]
    ready.set()
    await over.wait()
    for server in servers:
        server.close()


@contextmanager
def tls_in_front(host: str, targets: Mapping[int, str], certificate: tuple[Path, Path]) -> Iterator[None]:
    """Accept TLS on these ports of a host, and hand each on to the unix socket of a Redis."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    ready, over, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(_serve(host, targets, context, ready, over))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(30), "the ports were taken"
    try:
        yield
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(30)
