"""The bell: an idle worker is woken by a push, one worker a token."""

import asyncio

import pytest
from anyio import fail_after

from taskmill.engine.errors import StoreUnavailable
from taskmill.store.pubsub.wakeup import QueueWakeup
from taskmill.store.settings import StoreSettings
from tests.support.store_fixture import StoreFixture


@pytest.fixture
async def bells(stores: StoreFixture):  # type: ignore[no-untyped-def]
    """Two workers' bells."""
    made = [QueueWakeup(stores.settings, stores.keys, "default") for _ in range(2)]
    yield made
    for bell in made:
        await bell.close()


async def test_a_waiting_worker_is_woken_by_a_new_task(stores: StoreFixture, bells: list[QueueWakeup]) -> None:
    waiting = asyncio.create_task(bells[0].wait(5))
    with fail_after(4):
        while (await stores.redis.info("clients"))["blocked_clients"] != 1:
            await asyncio.sleep(0.001)

        await stores.create()

        assert await waiting is True


async def test_nothing_to_do_is_told_when_the_time_is_up(bells: list[QueueWakeup]) -> None:
    assert await bells[0].wait(0.05) is False


async def test_a_token_wakes_one_worker(stores: StoreFixture, bells: list[QueueWakeup]) -> None:
    await stores.create()

    assert sorted(await asyncio.gather(*(bell.wait(0.1) for bell in bells))) == [False, True]


async def test_a_token_passed_on_wakes_another_worker_and_fades(stores: StoreFixture, bells: list[QueueWakeup]) -> None:
    await stores.create()
    assert await bells[0].wait(1)

    await bells[0].pass_on()

    assert 0 < await stores.redis.pttl(stores.keys.wake("default")) <= 60_000
    assert await bells[1].wait(1)


async def test_a_task_of_another_queue_wakes_nobody_here(stores: StoreFixture, bells: list[QueueWakeup]) -> None:
    await stores.create(queue="slow")

    assert await bells[0].wait(0.05) is False


async def test_a_bell_of_several_queues_rings_for_each_and_passes_the_right_token_on(stores: StoreFixture) -> None:
    bell = QueueWakeup(stores.settings, stores.keys, "fast,slow")
    await stores.create(queue="slow")
    assert await bell.wait(1)

    await bell.pass_on()

    assert await stores.redis.llen(stores.keys.wake("slow")) == 1  # type: ignore[misc]
    await stores.create(queue="fast")
    assert [await bell.wait(0.05) for _ in range(3)] == [True, True, False]
    await bell.close()


async def test_a_bell_without_redis_is_store_unavailable(stores: StoreFixture) -> None:
    bell = QueueWakeup(StoreSettings(redis_url="unix:///nowhere/redis.sock"), stores.keys, "default")

    with fail_after(5):
        with pytest.raises(StoreUnavailable):
            await bell.wait(1)
        with pytest.raises(StoreUnavailable):
            await bell.pass_on()
    await bell.close()


async def test_a_bell_whose_redis_never_answers_is_store_unavailable_and_not_silent_for_ever(
    stores: StoreFixture,
) -> None:
    """An idle worker looks for work only when its bell returns."""
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    bell = QueueWakeup(StoreSettings(redis_url=url, command_timeout=0.2), stores.keys, "default")

    with fail_after(5), pytest.raises(StoreUnavailable):
        await bell.wait(0.1)

    await bell.close()
    server.close()
    for writer in held:
        writer.close()


async def test_a_bell_whose_connection_was_killed_rings_again(stores: StoreFixture, bells: list[QueueWakeup]) -> None:
    assert await bells[0].wait(0.01) is False
    await stores.redis.client_kill_filter(_type="normal", skipme=True)
    await stores.create()

    assert await bells[0].wait(1)
