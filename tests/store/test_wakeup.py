"""Wake-ups: an idle worker is woken by a push, one worker a token."""

import asyncio

import pytest
from anyio import fail_after

from taskmill.engine.errors import StoreUnavailable
from taskmill.store.pubsub.wakeup import QueueWakeup
from taskmill.store.settings import StoreSettings
from tests.support.store_fixture import StoreFixture
from tests.support.waiting import eventually_async


@pytest.fixture
async def wakeups(stores: StoreFixture):  # type: ignore[no-untyped-def]
    """Two workers' bells."""
    made = [QueueWakeup(stores.settings, stores.keys, "default") for _ in range(2)]
    yield made
    for wakeup in made:
        await wakeup.close()


async def test_a_waiting_worker_is_woken_by_a_new_task(stores: StoreFixture, wakeups: list[QueueWakeup]) -> None:
    waiting = asyncio.create_task(wakeups[0].wait(60))
    with fail_after(30):
        while (await stores.redis.info("clients"))["blocked_clients"] != 1:
            await asyncio.sleep(0.001)

        await stores.create()

        assert await waiting is True


async def test_a_claim_behind_a_wait_is_made_when_the_wait_ends_and_not_before(
    stores: StoreFixture, wakeups: list[QueueWakeup]
) -> None:
    await stores.claim()  # so that Redis knows the script
    claim = stores.ann.claim_call("default", 1, batch_id="1")
    waiting = asyncio.create_task(wakeups[0].wait_and_run(60, stores.ann.scripts.command(claim)))
    await eventually_async(lambda: stores.redis.info("clients"), lambda clients: clients["blocked_clients"] == 1)

    task_id = await stores.create()

    with fail_after(30):
        woken, reply = await waiting
    claims = stores.ann.claims_of(reply)
    assert (woken, [task.id for task in claims.tasks] if claims else None) == (True, [task_id])


async def test_a_claim_behind_a_wait_that_is_cancelled_is_not_made(
    stores: StoreFixture, wakeups: list[QueueWakeup]
) -> None:
    await stores.claim()
    command = stores.ann.scripts.command(stores.ann.claim_call("default", 1, batch_id="1"))
    waiting = asyncio.create_task(wakeups[0].wait_and_run(60, command))
    await eventually_async(lambda: stores.redis.info("clients"), lambda clients: clients["blocked_clients"] == 1)
    waiting.cancel()
    await eventually_async(lambda: stores.redis.info("clients"), lambda clients: clients["blocked_clients"] == 0)

    task_id = await stores.create()

    assert [task.id for task in (await stores.claim(stores.bob)).tasks] == [task_id]


async def test_nothing_to_do_is_reported_when_the_time_is_up(wakeups: list[QueueWakeup]) -> None:
    assert await wakeups[0].wait(0.05) is False


async def test_a_token_wakes_one_worker(stores: StoreFixture, wakeups: list[QueueWakeup]) -> None:
    await stores.create()

    assert sorted(await asyncio.gather(*(wakeup.wait(0.1) for wakeup in wakeups))) == [False, True]


async def test_a_token_passed_on_wakes_another_worker_and_fades(
    stores: StoreFixture, wakeups: list[QueueWakeup]
) -> None:
    await stores.create()
    assert await wakeups[0].wait(30)

    await wakeups[0].pass_on()

    assert 0 < await stores.redis.pttl(stores.keys.wake("default")) <= 60_000
    assert await wakeups[1].wait(30)


async def test_a_task_of_another_queue_wakes_no_worker_here(stores: StoreFixture, wakeups: list[QueueWakeup]) -> None:
    await stores.create(queue="slow")

    assert await wakeups[0].wait(0.05) is False


async def test_a_wakeup_of_several_queues_returns_for_each_and_passes_the_right_token_on(stores: StoreFixture) -> None:
    wakeup = QueueWakeup(stores.settings, stores.keys, "fast,slow")
    await stores.create(queue="slow")
    assert await wakeup.wait(30)

    await wakeup.pass_on()

    assert await stores.redis.llen(stores.keys.wake("slow")) == 1  # type: ignore[misc]
    await stores.create(queue="fast")
    assert [await wakeup.wait(0.05) for _ in range(3)] == [True, True, False]
    await wakeup.close()


async def test_a_wakeup_without_redis_is_store_unavailable(stores: StoreFixture) -> None:
    wakeup = QueueWakeup(StoreSettings(redis_url="unix:///nowhere/redis.sock"), stores.keys, "default")

    with fail_after(30):
        with pytest.raises(StoreUnavailable):
            await wakeup.wait(30)
        with pytest.raises(StoreUnavailable):
            await wakeup.pass_on()
    await wakeup.close()


async def test_a_wakeup_whose_redis_never_answers_is_store_unavailable_and_not_silent_for_ever(
    stores: StoreFixture,
) -> None:
    """An idle worker claims only when its wake-up returns."""
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    wakeup = QueueWakeup(StoreSettings(redis_url=url, command_timeout=0.2), stores.keys, "default")

    with fail_after(30), pytest.raises(StoreUnavailable):
        await wakeup.wait(0.1)

    await wakeup.close()
    server.close()
    for writer in held:
        writer.close()


async def test_a_wakeup_whose_connection_was_killed_returns_again(
    stores: StoreFixture, wakeups: list[QueueWakeup]
) -> None:
    assert await wakeups[0].wait(0.01) is False
    await stores.redis.client_kill_filter(_type="normal", skipme=True)
    await stores.create()

    assert await wakeups[0].wait(30)
