"""Renewals: they keep what is still held, tell what is lost, and leave no trace in the history."""

import pytest
from anyio import fail_after, sleep

from taskmill.engine.errors import StoreUnavailable
from taskmill.store.claims.heartbeat import Heartbeat
from taskmill.store.settings import StoreSettings
from tests.support.store_fixture import OWNER, StoreFixture, question


async def test_a_renewal_moves_the_end_of_the_lease_and_nothing_a_reader_sees(stores: StoreFixture) -> None:
    claimed = await stores.start()
    queue, mark = stores.keys.queue("default"), stores.keys.in_progress(claimed.id)
    before, end = await stores.read(claimed.id), await stores.redis.zscore(queue, claimed.id)
    await stores.redis.pexpire(mark, 5000)
    await stores.wait_until_ms(await stores.now_ms() + 1)

    assert await stores.renew((claimed.id, claimed.fence)) == []

    later = await stores.redis.zscore(queue, claimed.id)
    assert end is not None
    assert later is not None
    assert later > end
    assert await stores.redis.get(mark) == b"1"
    assert await stores.redis.pttl(mark) > 50_000
    assert await stores.read(claimed.id) == before


async def test_a_renewed_lease_outlives_its_first_end(stores: StoreFixture) -> None:
    hasty = stores.with_settings(lease=2)
    claimed = await hasty.start()
    end = await hasty.now_ms() + 2100

    with fail_after(30):
        while await hasty.now_ms() <= end:
            assert await hasty.renew((claimed.id, claimed.fence)) == []
            assert (await hasty.claim(hasty.bob)).tasks == []
            await sleep(0.05)


async def test_a_lapsed_lease_that_no_worker_has_claimed_is_kept_by_a_late_renewal(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.lapse(claimed.id)

    assert await stores.renew((claimed.id, claimed.fence)) == []
    assert (await stores.claim(stores.bob)).tasks == []
    assert await stores.finish(claimed) == "finished"


async def test_a_task_that_waits_for_an_answer_keeps_its_lease(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.ann.ask(claimed.id, claimed.fence, [question(1)])

    assert await stores.renew((claimed.id, claimed.fence)) == []


@pytest.mark.parametrize("fence", [0, 2, 99])
async def test_a_renewal_under_another_fence_is_lost_and_changes_nothing(stores: StoreFixture, fence: int) -> None:
    claimed = await stores.start()

    async with stores.nothing_changes():
        assert await stores.renew((claimed.id, fence)) == [claimed.id]


async def test_a_renewal_reports_each_lease_that_is_lost_and_keeps_the_others(stores: StoreFixture) -> None:
    kept, cancelled, finished, released, reclaimed = [await stores.start() for _ in range(5)]
    await stores.store.cancel(cancelled.id, OWNER)
    await stores.finish(finished)
    await stores.release(released)
    await stores.lapse(reclaimed.id)
    await stores.take(reclaimed.id, stores.bob)
    held = [(task.id, task.fence) for task in (cancelled, kept, finished, released, reclaimed)]

    lost = await stores.renew(*held, ("never-seen", 1))

    assert lost == [cancelled.id, finished.id, released.id, reclaimed.id, "never-seen"]
    assert await stores.redis.get(stores.keys.in_progress(reclaimed.id)) == b"2"


async def test_a_worker_that_holds_nothing_renews_nothing(stores: StoreFixture) -> None:
    assert await stores.renew() == []


async def test_a_presence_renews_and_shows_the_worker_for_as_long_as_a_lease(stores: StoreFixture) -> None:
    claimed, cancelled = await stores.start(), await stores.start()
    await stores.store.cancel(cancelled.id, OWNER)
    heartbeat = Heartbeat(stores.settings, stores.ann, "ann")

    lost = heartbeat.renew([(claimed.id, 1), (cancelled.id, 1)], {"worker": "ann", "running": 1})

    assert lost == [cancelled.id]
    assert await stores.store.workers() == [{"worker": "ann", "running": 1}]
    assert 50_000 < await stores.redis.pttl(stores.keys.worker("ann")) <= 60_000

    heartbeat.leave()

    assert await stores.store.workers() == []


async def test_a_presence_without_tasks_still_shows_the_worker(stores: StoreFixture) -> None:
    heartbeat = Heartbeat(stores.settings, stores.ann, "ann")

    assert heartbeat.renew([], {"worker": "ann"}) == []
    assert await stores.store.workers() == [{"worker": "ann"}]

    heartbeat.leave()


async def test_a_heartbeat_reports_when_there_is_no_store_and_comes_back_by_itself(
    stores: StoreFixture, settings: StoreSettings
) -> None:
    """Whatever the connection went through, the next call makes a new one."""
    claimed = await stores.start()
    heartbeat = Heartbeat(settings, stores.ann, "ann")
    heartbeat.renew([], {"worker": "ann"})
    await stores.redis.client_kill_filter(_type="normal", skipme=True)

    with fail_after(30):
        while True:
            try:
                lost = heartbeat.renew([(claimed.id, 1)], {"worker": "ann"})
                break
            except StoreUnavailable:
                await sleep(0.01)
    assert lost == []
    heartbeat.leave()


async def test_a_presence_without_redis_is_store_unavailable_and_can_still_leave(stores: StoreFixture) -> None:
    nowhere = stores.with_settings(redis_url="unix:///nowhere/redis.sock")
    heartbeat = Heartbeat(nowhere.settings, nowhere.ann, "ann")

    with pytest.raises(StoreUnavailable):
        heartbeat.renew([("t", 1)], {})
    heartbeat.leave()


async def test_the_name_of_a_worker_that_died_is_forgotten(stores: StoreFixture) -> None:
    Heartbeat(stores.settings, stores.ann, "ann").renew([], {"worker": "ann"})
    Heartbeat(stores.settings, stores.bob, "bob").renew([], {"worker": "bob"})
    await stores.redis.delete(stores.keys.worker("ann"))

    assert await stores.store.workers() == [{"worker": "bob"}]
    assert await stores.redis.smembers(stores.keys.workers) == {b"bob"}  # type: ignore[misc]
    assert 170_000 < await stores.redis.pttl(stores.keys.workers) <= 180_000
