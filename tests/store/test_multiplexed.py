"""One connection for all callers' commands: each caller gets its own reply, whatever happens to the others."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvloop
from anyio import fail_after
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, ResponseError, TimeoutError

from taskmill.store.connection.client import connect
from taskmill.store.settings import StoreSettings


@pytest.fixture
async def client(redis: Redis, redis_url: str) -> AsyncIterator[Any]:
    """A client with an open connection, and some keys to ask for: the value of `k7` is `7`."""
    await redis.mset({f"k{number}": number for number in range(100)})
    async with connect(StoreSettings(redis_url=redis_url, command_timeout=30)) as one:
        await one.ping()
        yield one
    await redis.flushdb()


def sentinel_options(client: Any, *numbers: int) -> list["asyncio.Task[Any]"]:
    return [asyncio.create_task(client.get(f"k{number}")) for number in numbers]


async def written(client: Any) -> None:
    """Wait until nothing is left to be sent, with the replies still to come."""
    with fail_after(30):
        while client._shared._unsent or not client._shared._pending:
            await asyncio.sleep(0)


async def test_every_caller_gets_its_own_reply(client: Any) -> None:
    assert [b"%d" % number for number in range(100)] == await asyncio.gather(*sentinel_options(client, *range(100)))


async def test_what_is_asked_at_once_is_one_connections_work(client: Any, redis: Redis) -> None:
    before = len(await redis.client_list())
    await asyncio.gather(*sentinel_options(client, *range(100)))
    assert before == len(await redis.client_list())


async def test_an_error_reaches_only_the_one_who_caused_it(client: Any) -> None:
    first, wrong, last = await asyncio.gather(
        client.get("k1"),
        client.incr("k2", "x"),
        client.get("k3"),
        return_exceptions=True,
    )
    assert (first, last) == (b"1", b"3")
    assert isinstance(wrong, ResponseError)


async def test_a_caller_who_leaves_takes_no_other_callers_reply(client: Any, redis: Redis) -> None:
    await redis.client_pause(100)
    stays, leaves, stays_too = sentinel_options(client, 1, 2, 3)
    await written(client)
    leaves.cancel()
    assert await asyncio.gather(stays, stays_too) == [b"1", b"3"]


async def test_commands_whose_connection_is_cut_are_sent_again(client: Any, redis: Redis) -> None:
    await redis.client_pause(100)
    waiting = sentinel_options(client, *range(20))
    await written(client)
    client._shared._connection._writer.transport.abort()
    assert [b"%d" % number for number in range(20)] == await asyncio.gather(*waiting)


async def test_a_caller_that_comes_back_late_takes_the_connection_that_others_have_opened(
    client: Any, redis: Redis
) -> None:
    """a second one would drop theirs, with the replies that are still to come on it."""
    before = len(await redis.client_list())
    early = sentinel_options(client, *range(5))
    await written(client)
    client._shared._give_up(ConnectionError("cut"))
    await asyncio.sleep(0)  # the early ones get the error, and wait a little
    assert await client.get("k7") == b"7"
    opened = client._shared
    assert await asyncio.gather(*early) == [b"%d" % number for number in range(5)]
    assert client._shared is opened
    assert len(await redis.client_list()) == before


async def test_a_caller_whose_connection_breaks_between_its_opening_and_its_command_is_served_by_another(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when another caller that waited for the same opening is first, and its command breaks the connection."""
    opened, lost = client._opened, []

    async def opened_and_lost_once() -> Any:
        shared = await opened()
        if not lost:
            lost.append(shared)
            shared._give_up(ConnectionError("cut"))
        return shared

    monkeypatch.setattr(client, "_opened", opened_and_lost_once)
    client._shared._give_up(ConnectionError("cut"))
    with fail_after(30):
        assert await client.get("k7") == b"7"
        assert await client.execute_many([("GET", "k7")]) == [b"7"]
    assert len(lost) == 1


async def test_only_callers_that_waited_too_long_get_a_timeout(client: Any, redis: Redis, redis_url: str) -> None:
    """The connection is given up for its first caller; those who came later ask again on another."""
    async with connect(StoreSettings(redis_url=redis_url, command_timeout=0.5)) as hasty:
        await hasty.ping()
        await redis.client_pause(700)
        (early,) = sentinel_options(hasty, 1)
        await written(hasty)
        hasty._shared._reply_timeout = 30
        (late,) = sentinel_options(hasty, 2)
        with fail_after(30):
            with pytest.raises(TimeoutError):
                await early
            assert await late == b"2"


async def test_a_closed_client_leaves_no_connection_and_fails_those_who_still_wait(client: Any, redis: Redis) -> None:
    await redis.client_pause(200)
    (waiting,) = sentinel_options(client, 1)
    await written(client)
    await client.aclose()
    with pytest.raises(ConnectionError):
        await waiting
    assert len(await redis.client_list()) == 1


def test_a_connection_that_broke_this_very_moment_is_replaced_under_uvloop_too(redis_url: str) -> None:
    """What `taskmill serve` runs on calls a write to it a RuntimeError, which no client takes for an outage."""

    async def ping_over_a_broken_connection() -> None:
        client: Any = connect(StoreSettings(redis_url=redis_url))
        await client.ping()
        client._shared._connection._writer.transport.abort()
        assert await client.ping()
        connection = await client.connection_pool.get_connection()
        await client.connection_pool.release(connection)
        connection._writer.transport.abort()
        async with client.pipeline() as pipe:
            assert await pipe.ping().execute() == [True]
        await client.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ping_over_a_broken_connection())
