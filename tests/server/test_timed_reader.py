"""A read with a time limit leaves nothing of it running, however it ends."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from anyio import fail_after

from taskmill.server.streams.timed_reader import TimedReader


async def test_a_stream_is_closed_when_its_reader_is_cancelled_once_more_while_it_ends() -> None:
    """A client that disconnects while a quiet stream ends a batch: closing a running iterator is an error."""
    is_ending, may_end = asyncio.Event(), asyncio.Event()

    async def items() -> AsyncGenerator[int, None]:
        try:
            await asyncio.Event().wait()
        finally:
            is_ending.set()
            await may_end.wait()
        yield 1

    async def read() -> None:
        async with aclosing(items()) as stream, TimedReader(stream) as reader:
            with pytest.raises(TimeoutError):
                await reader.next(0.01)

    with fail_after(30):
        reading = asyncio.create_task(read())
        await is_ending.wait()
        reading.cancel()
        asyncio.get_running_loop().call_soon(may_end.set)
        (done,), _ = await asyncio.wait([reading])
    assert done.cancelled()
