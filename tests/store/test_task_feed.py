"""Followers: one connection however many wait, and no event is missed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from anyio import fail_after, sleep
from redis.asyncio import Redis

from taskmill.engine.status import TERMINAL
from taskmill.store.pubsub.hub import ChannelHub
from taskmill.store.pubsub.task_feed import Subscription, TaskFeed
from taskmill.store.settings import StoreSettings
from tests.support.redis_server import PrivateRedis
from tests.support.store_fixture import DONE, OWNER, StoreFixture


async def subscribe(stores: StoreFixture) -> int:
    """Connections that have subscribed to something."""
    return len(await stores.redis.client_list(_type="pubsub"))


async def subscribed(stores: StoreFixture) -> set[str]:
    """The tasks that have subscribers, as Redis counts them."""
    channels = await stores.redis.pubsub_channels()
    return {task_id for task_id in (stores.keys.task_of(channel.decode()) for channel in channels) if task_id}


async def until_subscribed(stores: StoreFixture, *task_ids: str) -> None:
    with fail_after(30):
        while await subscribed(stores) != set(task_ids):
            await sleep(0.005)


@asynccontextmanager
async def following(feed: TaskFeed, *task_ids: str) -> AsyncIterator[Subscription]:
    """A follower that has got its first notifications; every wait in a test is bounded."""
    async with feed.follow(*task_ids) as subscription:
        updates: set[str] = set()
        with fail_after(30):
            while updates != set(task_ids):
                updates.update(await subscription.updates())
        yield subscription


async def updates(subscription: Subscription) -> list[str]:
    with fail_after(30):
        return await subscription.updates()


async def silent(subscription: Subscription) -> bool:
    """Whether there is no news, also after everything Redis has sent so far has been read."""
    try:
        async with asyncio.timeout(0.05):
            await subscription.updates()
    except TimeoutError:
        return True
    return False


async def test_a_follower_is_notified_once_at_its_beginning_and_then_of_every_event(stores: StoreFixture) -> None:
    task_id = await stores.create()
    async with following(stores.store.feed, task_id) as follower:
        assert await silent(follower)

        claimed = await stores.take(task_id)
        assert await updates(follower) == [task_id]

        await stores.finish(claimed)
        assert await updates(follower) == [task_id]


async def test_a_follower_is_notified_of_what_a_batch_does_with_its_task(stores: StoreFixture) -> None:
    """Redis is asked who has followers, so that nothing is published to no one."""
    ids = [await stores.create() for _ in range(4)]
    async with following(stores.store.feed, *ids[1:3]) as follower:
        claimed = (await stores.claim(room=4)).tasks
        noticed = set(await updates(follower))
        while noticed != set(ids[1:3]):
            noticed.update(await updates(follower))

        await stores.run(*(stores.ann.finish_call(task.id, task.fence, DONE) for task in claimed))
        noticed = set(await updates(follower))
        while noticed != set(ids[1:3]):
            noticed.update(await updates(follower))


async def test_a_user_who_may_not_ask_for_followers_notifies_all(stores: StoreFixture) -> None:
    ids = [await stores.create() for _ in range(2)]
    async with following(stores.store.feed, *ids) as follower:
        await stores.redis.execute_command("ACL", "SETUSER", "default", "-pubsub")
        try:
            await stores.claim(room=2)
        finally:
            await stores.redis.execute_command("ACL", "SETUSER", "default", "+pubsub")
        noticed = set(await updates(follower))
        while noticed != set(ids):
            noticed.update(await updates(follower))


async def test_a_follower_is_notified_only_of_its_own_tasks(stores: StoreFixture) -> None:
    mine, other = await stores.create(), await stores.create()
    async with following(stores.store.feed, mine) as follower, following(stores.store.feed, other):
        await stores.take(other)
        assert await silent(follower)


async def test_a_follower_of_many_tasks_is_notified_of_each_once_however_much_happened(stores: StoreFixture) -> None:
    first, second = await stores.create(), await stores.create()
    async with (
        following(stores.store.feed, first, second, first) as follower,
        following(stores.store.feed, first) as pace,
    ):
        await stores.finish(await stores.take(second))
        await stores.take(first)
        await updates(pace)

        assert sorted(await updates(follower)) == sorted([first, second])


async def test_any_number_of_followers_share_one_connection(stores: StoreFixture) -> None:
    ids = [await stores.create() for _ in range(20)]
    async with AsyncExitStack() as stack:
        followers = [await stack.enter_async_context(following(stores.store.feed, task_id)) for task_id in ids * 5]

        assert await subscribe(stores) == 1
        await stores.claim(room=20)
        assert [await updates(follower) for follower in followers] == [[task_id] for task_id in ids * 5]


async def test_followers_that_begin_together_are_all_notified(stores: StoreFixture) -> None:
    """The first opens the connection; the others must not fall into the time that takes."""
    ids = [await stores.create() for _ in range(10)]
    gate = asyncio.Barrier(len(ids) + 1)

    async def follow(task_id: str) -> None:
        async with following(stores.store.feed, task_id) as follower:
            await gate.wait()
            assert await updates(follower) == [task_id]

    with fail_after(30):
        async with asyncio.TaskGroup() as group:
            for task_id in ids:
                group.create_task(follow(task_id))
            await gate.wait()
            await stores.claim(room=10)


@pytest.mark.parametrize("turns", range(8))
async def test_a_follower_that_begins_while_the_connection_is_made_is_notified(
    stores: StoreFixture, turns: int
) -> None:
    """Whatever the connection was doing just then."""
    first, second = await stores.create(), await stores.create()
    async with stores.store.feed.follow(first):
        for _ in range(turns):
            await asyncio.sleep(0)
        async with following(stores.store.feed, second) as follower:
            await until_subscribed(stores, first, second)
            await stores.take(second)
            assert await updates(follower) == [second]


async def test_who_leaves_is_unsubscribed_with_the_last_follower(stores: StoreFixture) -> None:
    task_id, other = await stores.create(), await stores.create()
    async with following(stores.store.feed, other):
        async with following(stores.store.feed, task_id) as stays:
            async with following(stores.store.feed, task_id):
                await until_subscribed(stores, task_id, other)
            await stores.take(task_id)
            assert await updates(stays) == [task_id]
            assert await subscribed(stores) == {task_id, other}
        await until_subscribed(stores, other)
    await until_subscribed(stores)


async def test_who_leaves_while_the_connection_is_made_is_not_kept(stores: StoreFixture) -> None:
    async with stores.store.feed.follow("stays"):
        async with stores.store.feed.follow("leaves"):
            pass
        await until_subscribed(stores, "stays")


async def test_coming_and_going_in_any_order_keeps_those_who_are_there_listening(stores: StoreFixture) -> None:
    task_id = await stores.create()
    async with stores.store.feed.follow(await stores.create()):
        for _ in range(200):
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(stores.store.feed.follow(task_id))
                leaving = asyncio.create_task(stack.pop_all().aclose())
                async with stores.store.feed.follow(task_id):
                    await leaving
        async with following(stores.store.feed, task_id) as follower:
            await stores.take(task_id)
            assert await updates(follower) == [task_id]


async def follow_to_the_end(stores: StoreFixture, task_id: str) -> str:
    """What a server does: look, wait for news, look again."""
    async with stores.store.feed.follow(task_id) as follower:
        while (view := await stores.store.read(task_id, OWNER)).record.status not in TERMINAL:
            await follower.updates()
        return view.record.status.value


async def test_no_end_falls_between_the_first_reading_and_the_subscription(stores: StoreFixture) -> None:
    """Hammered: each follower begins while its task is being finished."""
    ids = [await stores.create() for _ in range(200)]

    async def run(task_id: str) -> None:
        await stores.finish(await stores.take(task_id))

    with fail_after(30):
        for batch in (ids[at : at + 20] for at in range(0, 200, 20)):
            ends = [follow_to_the_end(stores, task_id) for task_id in batch]
            statuses = await asyncio.gather(*ends, *map(run, batch))
            assert statuses[:20] == ["completed"] * 20


async def test_followers_are_woken_when_their_connection_was_killed(stores: StoreFixture) -> None:
    """They cannot know what they missed, so they must look."""
    task_id = await stores.create()
    async with following(stores.store.feed, task_id) as follower:
        await stores.redis.client_kill_filter(_type="pubsub")
        claimed = await stores.take(task_id)

        assert await updates(follower) == [task_id]

        await until_subscribed(stores, task_id)
        with fail_after(30):
            while not await silent(follower):
                pass
        await stores.finish(claimed)
        assert await updates(follower) == [task_id]
        assert await subscribe(stores) == 1


async def test_no_end_is_missed_while_the_connection_is_killed_again_and_again(stores: StoreFixture) -> None:
    ids = [await stores.create() for _ in range(60)]
    done = asyncio.Event()

    async def kill() -> None:
        while not done.is_set():
            await stores.redis.client_kill_filter(_type="pubsub")
            await sleep(0.02)

    async def run(task_id: str) -> None:
        await stores.finish(await stores.take(task_id))

    killer = asyncio.create_task(kill())
    try:
        with fail_after(30):
            for batch in (ids[at : at + 10] for at in range(0, 60, 10)):
                statuses = await asyncio.gather(
                    *(follow_to_the_end(stores, task_id) for task_id in batch), *map(run, batch)
                )
                assert statuses[:10] == ["completed"] * 10
    finally:
        done.set()
        await killer


async def test_a_closed_feed_leaves_no_connection(stores: StoreFixture) -> None:
    feed = TaskFeed(stores.keys, ChannelHub(stores.settings, stores.keys.record("")))
    async with feed, following(feed, await stores.create()):
        assert await subscribe(stores) == 1

    with fail_after(30):
        while await subscribe(stores):
            await sleep(0.005)


@asynccontextmanager
async def door_that_opens_late(socket: str) -> AsyncIterator[str]:
    """The address of a server that leaves its first caller without an answer and puts the others through."""
    callers: list[asyncio.StreamWriter] = []
    pumps: list[asyncio.Task[None]] = []

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            target.write(data)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append(writer)
        if len(callers) > 1:
            inner, outer = await asyncio.open_unix_connection(socket)
            callers.append(outer)
            pumps.extend(asyncio.create_task(pump(*way)) for way in ((reader, outer), (inner, writer)))

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()
        for pumping in pumps:
            pumping.cancel()
        for caller in callers:
            caller.close()


async def test_a_connection_that_gets_no_answer_is_opened_again(stores: StoreFixture) -> None:
    """A connection to a host that has vanished would otherwise be waited on for ever."""
    task_id = await stores.create()
    path = (stores.settings.redis_url or "").removeprefix("unix://").split("?")[0]
    async with door_that_opens_late(path) as url:
        late = stores.with_settings(redis_url=url, command_timeout=0.2)
        async with late.store.feed, following(late.store.feed, task_id) as follower:
            await stores.take(task_id)
            assert await updates(follower) == [task_id]


async def test_a_connection_that_was_refused_is_opened_once_it_may_be() -> None:
    """An administrator gives the user the right to subscribe; nothing has to be restarted."""
    with PrivateRedis() as server:
        async with Redis.from_url(server.url) as redis:
            stores = StoreFixture(redis, StoreSettings(redis_url=server.url))
            task_id = await stores.create()
            await redis.execute_command("ACL", "SETUSER", "default", "resetchannels")
            async with stores.store.feed, stores.store.feed.follow(task_id) as follower:
                await stores.store.ping()
                await redis.execute_command("ACL", "SETUSER", "default", "allchannels")
                assert await updates(follower) == [task_id]


async def test_who_comes_or_goes_while_the_connection_is_being_closed_gets_no_error(stores: StoreFixture) -> None:
    done = asyncio.Event()

    async def kill() -> None:
        for _ in range(30):
            while not await stores.redis.client_kill_filter(_type="pubsub"):
                await asyncio.sleep(0)
        done.set()

    async def come_and_go(task_id: str) -> None:
        while not done.is_set():
            async with stores.store.feed.follow(task_id):
                await asyncio.sleep(0)

    with fail_after(30):
        await asyncio.gather(kill(), *(come_and_go(f"task-{number}") for number in range(20)))
