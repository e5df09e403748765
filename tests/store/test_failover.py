"""A replica that lacks the primary's last writes is promoted: what was lost is lost, but no fence comes twice."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager

import pytest
from anyio import fail_after, sleep
from redis.asyncio import Redis

from taskmill.engine.errors import SettingsError, StoreUnavailable
from taskmill.store.claims.heartbeat import Heartbeat
from taskmill.store.connection.client import connect, open_redis
from taskmill.store.connection.sentinel import sentinel_target_of
from taskmill.store.opening import open_store
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.arq_job import arq_redis_settings
from tests.support.redis_server import PrivateRedis, SentinelServer, free_port
from tests.support.store_fixture import DONE, StoreFixture, own_servers

sound = own_servers


@pytest.fixture
def servers() -> Iterator[list[PrivateRedis]]:
    """A primary, its replica, and a replica of that."""
    with ExitStack() as stack:
        chain: list[PrivateRedis] = []
        for _ in range(3):
            behind = {"replicaof": f"127.0.0.1 {chain[-1].port}"} if chain else {}
            settings = {"port": str(free_port()), "repl_diskless_sync": "yes", "repl_diskless_sync_delay": "0"}
            chain.append(stack.enter_context(PrivateRedis(**settings, **behind)))
        yield chain


@asynccontextmanager
async def stores_on(server: PrivateRedis) -> AsyncIterator[StoreFixture]:
    """A store and two workers on this server."""
    async with Redis.from_url(server.url) as redis:
        yield StoreFixture(redis, StoreSettings(redis_url=server.url, lease=60))


async def in_step(first: PrivateRedis, second: PrivateRedis) -> None:
    """Return once the second server has all that the first one has."""
    async with Redis.from_url(first.url) as upper, Redis.from_url(second.url) as lower:
        with fail_after(30):
            while True:
                above, below = await upper.info("replication"), await lower.info("replication")
                is_up = below["master_link_status"] == "up"
                if is_up and above["master_repl_offset"] == below["slave_repl_offset"]:
                    return
                await sleep(0.01)


async def cut_off(server: PrivateRedis) -> None:
    """Have a replica receive nothing more."""
    async with Redis.from_url(server.url) as redis:
        await redis.replicaof("127.0.0.1", "1")


async def promote(server: PrivateRedis) -> None:
    async with Redis.from_url(server.url) as redis:
        await redis.replicaof("NO", "ONE")


async def test_the_result_of_a_claim_that_a_failover_lost_is_refused(servers: list[PrivateRedis]) -> None:
    """ann claims, the claim never reaches the replica, the primary dies: the task is bob's, whatever ann sends."""
    primary, replica, _ = servers
    async with stores_on(primary) as before:
        task_id = await before.create()
        await in_step(primary, replica)
        await cut_off(replica)
        lost = await before.take(task_id)
        primary.kill()
    await promote(replica)
    async with stores_on(replica) as after:
        assert (await after.record(task_id)).status == "pending"
        task = await after.take(task_id, after.bob)
        assert task.fence > lost.fence
        assert await after.renew((task_id, lost.fence)) == [task_id]
        assert await after.finish(task, fence=lost.fence) == "lost"
        assert (await after.record(task_id)).status == "running"
        assert await after.finish(task, DONE) == "finished"
        assert (await after.record(task_id)).fence == task.fence


@pytest.mark.parametrize("move", ["park", "cancel"])
async def test_no_move_hands_a_lost_fence_out_again(servers: list[PrivateRedis], move: str) -> None:
    """on the promoted replica the task is still an earlier attempt's, which parks, or is cancelled."""
    primary, replica, _ = servers
    async with stores_on(primary) as before:
        first = await before.start()
        await before.ann.ask(first.id, first.fence, [])
        await in_step(primary, replica)
        await cut_off(replica)
        await before.release(first)
        lost = await before.take(first.id, before.bob)
        primary.kill()
    await promote(replica)
    async with stores_on(replica) as after:
        if move == "cancel":
            await after.store.cancel(first.id, "")
        else:
            await after.redis.hset(after.keys.record(first.id), "status", "input_required")
            await after.run(after.ann.park_call(first.id, first.fence))
        assert (await after.record(first.id)).fence > lost.fence
        assert await after.finish(lost) == "lost"


async def test_two_failovers_in_a_row_repeat_no_fence(servers: list[PrivateRedis]) -> None:
    """also when the second loses everything that happened since the first."""
    first, second, third = servers
    async with stores_on(first) as before:
        task_id = await before.create()
        await in_step(first, second)
        await in_step(second, third)
        await cut_off(second)
        await cut_off(third)
        fences = [(await before.take(task_id)).fence]
        first.kill()
    await promote(second)
    async with stores_on(second) as between:
        fences.append((await between.take(task_id)).fence)
        await between.wait_until_ms(await between.now_ms())
        second.kill()
    await promote(third)
    async with stores_on(third) as after:
        fences.append((await after.take(task_id)).fence)
    assert fences == sorted(set(fences))


async def test_a_restart_that_lost_the_end_of_its_file_repeats_no_fence() -> None:
    with PrivateRedis(appendonly="yes", appendfsync="no", aof_load_truncated="yes") as server:
        file = server.append_only_file
        async with stores_on(server) as before:
            assert await before.finish(await before.start()) == "finished"
            task_id = await before.create()
            kept = file.stat().st_size
            lost = await before.take(task_id)
            server.kill()
        with file.open("rb+") as content:
            content.truncate(kept)
        await asyncio.to_thread(server.start)
        async with stores_on(server) as after:
            task = await after.take(task_id)
            assert task.fence > lost.fence
            assert await after.finish(task, fence=lost.fence) == "lost"
            assert await after.finish(task) == "finished"


async def test_without_a_failover_fences_count_from_one(servers: list[PrivateRedis]) -> None:
    async with stores_on(servers[0]) as stores:
        task = await stores.start()
        fences = [task.fence]
        for _ in range(3):
            await stores.release(task)
            task = await stores.take(task.id)
            fences.append(task.fence)
        assert fences == [1, 2, 3, 4]


async def test_a_user_that_may_not_ask_for_the_history_can_still_claim(servers: list[PrivateRedis]) -> None:
    server = servers[0]
    async with Redis.from_url(server.url) as redis:
        await redis.execute_command("ACL", "SETUSER", "plain", "on", ">pw", "~*", "&*", "+@all", "-info")
    async with Redis(port=server.port, username="plain", password="pw") as redis:
        stores = StoreFixture(redis, StoreSettings(lease=60))
        assert (await stores.start()).fence == 1


async def test_a_real_sentinel_is_followed_to_the_new_primary(servers: list[PrivateRedis]) -> None:
    """store, events, claims and the lease thread, each over connections of its own."""
    primary, replica, _ = servers
    await in_step(primary, replica)
    with SentinelServer(primary.port) as sentinel:
        settings = StoreSettings(redis_url=sentinel.url, lease=60, command_timeout=2)
        async with open_store(settings) as store, open_redis(settings) as redis:
            stores = StoreFixture(redis, settings)
            heartbeat = Heartbeat(settings, stores.ann, "ann")
            held = await stores.start()
            waiting = await stores.create()
            async with store.tails.follow(held.id) as events:
                seen = [(await anext(events)).move.value for _ in range(2)]
                await in_step(primary, replica)
                primary.kill()
                with pytest.raises(StoreUnavailable):
                    heartbeat.renew([(held.id, held.fence)], {})
                with fail_after(30):
                    while not await taken(stores, waiting):
                        await sleep(0.05)
                    while True:
                        try:
                            assert heartbeat.renew([(held.id, held.fence)], {}) == []
                            break
                        except StoreUnavailable:
                            await sleep(0.05)
                    assert await stores.finish(held) == "finished"
                    seen += [event.move.value async for event in events]
            heartbeat.leave()
            assert seen == ["create", "claim", "complete"]
            assert (await stores.record(waiting)).fence > 1_000_000_000_000
            async with Redis.from_url(replica.url) as promoted:
                assert (await promoted.info("replication"))["role"] == "master"


async def taken(stores: StoreFixture, task_id: str) -> bool:
    """Whether the task could be claimed."""
    try:
        await stores.take(task_id)
    except StoreUnavailable:
        return False
    return True


async def test_a_primary_that_wakes_up_after_the_failover_gets_no_more_writes(servers: list[PrivateRedis]) -> None:
    """Sentinel needs seconds to make it a replica; until then it would take writes that are lost."""
    primary, replica, _ = servers
    await in_step(primary, replica)
    with SentinelServer(primary.port) as sentinel:
        settings = StoreSettings(redis_url=sentinel.url, lease=60, command_timeout=2)
        async with open_redis(settings) as redis:
            stores = StoreFixture(redis, settings)
            made = await asyncio.gather(*(stores.create() for _ in range(5)))  # over five connections
            await in_step(primary, replica)
            assert primary.process is not None
            primary.process.send_signal(signal.SIGSTOP)
            with fail_after(30):
                while not await taken(stores, made[0]):
                    await sleep(0.05)
            primary.process.send_signal(signal.SIGCONT)
            made += await asyncio.gather(*(stores.create() for _ in range(5)))
            async with Redis.from_url(primary.url) as old, Redis.from_url(replica.url) as promoted:
                assert (await old.info("replication"))["role"] == "master"
                assert await promoted.exists(*map(stores.keys.record, made)) == 10


@pytest.mark.parametrize("url", ["redis+sentinel:///name", "redis+sentinel://host", "redis+sentinel://host:x/name"])
def test_an_address_without_a_sentinel_or_a_name_fails_with_what_to_write(url: str) -> None:
    with pytest.raises(SettingsError, match=r"redis\+sentinel://host:26379,host:26379/name"):
        connect(StoreSettings(redis_url=url))


def test_an_address_of_sentinels_is_read_whole() -> None:
    target = sentinel_target_of("rediss+sentinel://us%40er:p%2Fw@one,two:1,[::1]:2/tasks/3?sentinel_password=s")
    assert target is not None
    assert target.sentinels == (("one", 26379), ("two", 1), ("::1", 2))
    assert (target.name, target.is_tls) == ("tasks", True)
    assert target.options == {"db": 3, "username": "us@er", "password": "p/w", "ssl_check_hostname": True}
    assert target.sentinel_options["ssl_check_hostname"] is True
    assert (target.sentinel_options["password"], target.sentinel_options["ssl"]) == ("s", True)


def test_a_stock_worker_gets_the_sentinels() -> None:
    found = arq_redis_settings(StoreSettings(redis_url="redis+sentinel://:pw@one,two:1/tasks/3"))
    assert (found.host, found.sentinel, found.sentinel_master) == ([("one", 26379), ("two", 1)], True, "tasks")
    assert (found.password, found.database) == ("pw", 3)
