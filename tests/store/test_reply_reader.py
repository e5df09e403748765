"""Replies taken off a connection as they arrive, and every way in which it can end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from anyio import fail_after
from redis.asyncio import UnixDomainSocketConnection
from redis.exceptions import BusyLoadingError, ConnectionError, InvalidResponse, ResponseError, TimeoutError

from taskmill.store.connection.client import connect
from taskmill.store.connection.reply_reader import ReplyReader
from taskmill.store.settings import StoreSettings


class Taken:
    """What a reader reported."""

    def __init__(self) -> None:
        self.replies: list[Any] = []
        self.lost: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()


@asynccontextmanager
async def replying(folder: Path, *pieces: bytes) -> AsyncIterator[str]:
    """The socket of a server that replies these pieces to any request, and hangs up. No Redis would."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_unix_server(reply, str(folder / "s"))
    async with server:
        yield str(folder / "s")


async def taken_of(path: str) -> Taken:
    """All that comes on a connection until it ends."""
    connection = UnixDomainSocketConnection(path=path, lib_name=None, lib_version=None)
    await connection.connect()
    taken = Taken()
    ReplyReader(connection, taken.replies.append, taken.lost.set_result)
    await connection.send_command("PING")
    with fail_after(30):
        await taken.lost
    connection._close()
    return taken


async def test_replies_are_taken_whole_wherever_they_were_cut(tmp_path: Path) -> None:
    async with replying(tmp_path, b"+one\r\n$3\r\ntw", b"o\r\n*2\r\n:1\r\n", b":2\r\n") as path:
        taken = await taken_of(path)
    assert taken.replies == [b"one", b"two", [1, 2]]
    assert isinstance(taken.lost.result(), ConnectionError)


async def test_a_refusal_is_taken_as_what_redis_py_calls_it(tmp_path: Path) -> None:
    async with replying(tmp_path, b"-ERR no\r\n-LOADING it\r\n") as path:
        refusal, loading = (await taken_of(path)).replies
    assert (type(refusal), type(loading)) == (ResponseError, BusyLoadingError)


async def test_what_is_no_redis_ends_the_connection(tmp_path: Path) -> None:
    async with replying(tmp_path, b"+one\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n") as path:
        taken = await taken_of(path)
    assert taken.replies == [b"one"]
    assert isinstance(taken.lost.result(), InvalidResponse)


async def test_a_connection_that_has_ended_before_it_is_read_is_reported(tmp_path: Path) -> None:
    async with replying(tmp_path) as path:
        connection = UnixDomainSocketConnection(path=path, lib_name=None, lib_version=None)
        await connection.connect()
        await connection.send_command("PING")
        with fail_after(30):
            while not connection._reader.at_eof():
                await asyncio.sleep(0)
        taken = Taken()
        reader_ = ReplyReader(connection, taken.replies.append, taken.lost.set_result)
        with fail_after(30):
            assert isinstance(await taken.lost, ConnectionError)
            await reader_.is_closed.wait()
        connection._close()


async def test_an_aborted_reader_reports_nothing_and_takes_no_more_replies(redis_url: str) -> None:
    connection = UnixDomainSocketConnection(path=redis_url.removeprefix("unix://").partition("?")[0])
    await connection.connect()
    taken = Taken()
    reader_ = ReplyReader(connection, taken.replies.append, taken.lost.set_result)
    await connection.send_command("PING")
    reader_.abort()
    with fail_after(30):
        await reader_.is_closed.wait()
    connection._close()
    assert (taken.replies, taken.lost.done()) == ([], False)


@pytest.mark.parametrize("piece", [b"-LOADING Redis is loading the dataset in memory\r\n", b"what is this\r\n"])
async def test_a_redis_that_refuses_all_fails_every_command_that_waits(tmp_path: Path, piece: bytes) -> None:
    """And not only the one whose turn it was: the replies behind it may never come."""
    async with (
        replying(tmp_path, b"+OK\r\n+OK\r\n", piece) as path,
        connect(StoreSettings(redis_url=f"unix://{path}", command_timeout=2)) as client,
    ):
        with fail_after(30):
            replies = await asyncio.gather(client.get("a"), client.get("b"), return_exceptions=True)
    assert all(isinstance(one, (ConnectionError, InvalidResponse, TimeoutError)) for one in replies)
