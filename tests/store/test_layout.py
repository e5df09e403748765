"""The number of the layout: written once, checked at each opening, and a deployment of another one is left alone."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from taskmill.engine.errors import RedisUnfit
from taskmill.store.connection.client import open_redis
from taskmill.store.connection.layout import LAYOUT, inspect_layout
from taskmill.store.formats.keys import Keys
from taskmill.store.opening import open_store
from taskmill.store.settings import StoreSettings
from tests.support.first_layout import first_layout
from tests.support.invariants import read_redis
from tests.support.store_fixture import StoreFixture

KEYS = Keys()


@pytest.fixture(autouse=True)
async def emptied(redis: Redis) -> AsyncIterator[None]:
    """What is in another layout is no sound deployment of ours."""
    yield
    await redis.flushall()


async def test_the_first_process_writes_the_number_and_the_next_one_finds_it(
    redis: Redis, settings: StoreSettings
) -> None:
    assert (await inspect_layout(redis, KEYS)).detail == "no tasks yet under the prefix taskmill"
    assert await redis.get(KEYS.layout) is None, "to look writes nothing"

    for _ in range(2):
        async with open_store(settings):
            assert await redis.get(KEYS.layout) == str(LAYOUT).encode()
    assert await redis.pttl(KEYS.layout) == -1
    assert (await inspect_layout(redis, KEYS)).level == "ok"


async def test_a_later_opening_costs_one_command_more(redis: Redis, settings: StoreSettings) -> None:
    async with open_redis(settings):
        pass
    await redis.config_resetstat()

    async with open_redis(settings):
        calls = await redis.info("commandstats")

    assert calls["cmdstat_get"]["calls"] == 1
    assert not {"cmdstat_set", "cmdstat_zrange", "cmdstat_type"} & calls.keys()


@pytest.mark.parametrize("ended", [False, True], ids=["queued", "completed"])
async def test_tasks_of_the_first_layout_are_refused_in_words_and_left_alone(
    redis: Redis, settings: StoreSettings, ended: bool
) -> None:
    for command in first_layout(KEYS, ended=ended):
        await redis.execute_command(*command)
    before = (await read_redis(redis)).values

    with pytest.raises(RedisUnfit) as refused:
        async with open_store(settings):
            pass

    assert str(refused.value) == (
        f"The tasks under the prefix taskmill are stored in layout 1, and this version reads {LAYOUT}. To do: run the "
        "version that wrote them until all its tasks have ended and their results have expired; or set TASKMILL_PREFIX "
        "to another name, under which this version starts empty, while the older one goes on with its tasks"
    )
    assert (await inspect_layout(redis, KEYS)).level == "unfit"
    assert (await read_redis(redis)).values == before


async def test_another_prefix_beside_the_first_layout_starts_empty(redis: Redis, settings: StoreSettings) -> None:
    for command in first_layout(KEYS, ended=False):
        await redis.execute_command(*command)

    async with open_store(settings.model_copy(update={"prefix": "other"})) as store:
        assert (await store.page("")).views == ()


async def test_what_the_first_layout_leaves_when_its_tasks_have_expired_is_taken_over(
    redis: Redis, settings: StoreSettings
) -> None:
    """Lists forget expired tasks late, and the fences go on where they were."""
    for command in first_layout(KEYS, ended=True):
        await redis.execute_command(*command)
    await redis.delete(KEYS.record("A" * 43), KEYS.events("A" * 43))
    await redis.zadd(KEYS.fading, {"A" * 43: 1}, xx=True)

    async with open_store(settings) as store:
        stores = StoreFixture(redis, settings)
        claimed = await stores.start()
        assert (await store.read(claimed.id, "")).record.attempt == 1
    assert await redis.get(KEYS.layout) == str(LAYOUT).encode()


@pytest.mark.parametrize("number", ["3", "99", "x", ""])
async def test_a_number_that_is_not_ours_is_refused(redis: Redis, settings: StoreSettings, number: str) -> None:
    await redis.set(KEYS.layout, number)

    with pytest.raises(RedisUnfit) as refused:
        async with open_store(settings):
            pass

    newer = number.isdigit()
    assert ("use the newer version of Taskmill" in str(refused.value)) is newer
    assert "TASKMILL_PREFIX" in str(refused.value)
    assert await redis.get(KEYS.layout) == number.encode()


async def test_a_deployment_that_was_emptied_while_it_ran_gets_its_number_again(
    redis: Redis, settings: StoreSettings
) -> None:
    async with open_store(settings):
        await redis.flushall()
        task_id = await StoreFixture(redis, settings).create()

        async with open_store(settings) as another:
            assert (await another.read(task_id, "")).record.seq == 1

    assert await redis.get(KEYS.layout) == str(LAYOUT).encode()


async def test_a_shard_of_another_layout_is_named(redis: Redis, redis_url: str, settings: StoreSettings) -> None:
    await redis.select(0)
    second = f"{redis_url.split('?')[0]}?db=1" if redis_url.startswith("unix") else f"{redis_url}/1"
    async with Redis.from_url(second) as shard:
        for command in first_layout(KEYS, ended=False):
            await shard.execute_command(*command)

    with pytest.raises(RedisUnfit, match=r"^Shard other: The tasks under the prefix taskmill are stored in layout 1"):
        async with open_store(settings.model_copy(update={"shards": {"other": second}})):
            pass
