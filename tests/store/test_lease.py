"""Renewals: they keep what is still held, tell what is lost, and leave no trace in the history."""

import pytest
from anyio import fail_after, sleep

from taskmill.engine.errors import StoreUnavailable
from taskmill.store.claims.heartbeat import Presence
from taskmill.store.settings import StoreSettings
from tests.support.store_fixture import OWNER, Depot, question


async def test_a_renewal_moves_the_end_of_the_lease_and_nothing_a_reader_sees(depot: Depot) -> None:
    claimed = await depot.start()
    queue, mark = depot.keys.queue("default"), depot.keys.in_progress(claimed.id)
    before, end = await depot.look(claimed.id), await depot.redis.zscore(queue, claimed.id)
    await depot.redis.pexpire(mark, 5000)
    await depot.wait_until_ms(await depot.now_ms() + 1)

    assert await depot.renew((claimed.id, claimed.fence)) == []

    later = await depot.redis.zscore(queue, claimed.id)
    assert end is not None
    assert later is not None
    assert later > end
    assert await depot.redis.get(mark) == b"1"
    assert await depot.redis.pttl(mark) > 50_000
    assert await depot.look(claimed.id) == before


async def test_a_renewed_lease_outlives_its_first_end(depot: Depot) -> None:
    hasty = depot.with_settings(lease=0.5)
    claimed = await hasty.start()
    end = await hasty.now_ms() + 600

    with fail_after(5):
        while await hasty.now_ms() <= end:
            assert await hasty.renew((claimed.id, claimed.fence)) == []
            assert (await hasty.claim(hasty.bob)).tasks == []
            await sleep(0.05)


async def test_a_lapsed_lease_that_nobody_has_claimed_is_kept_by_a_late_renewal(depot: Depot) -> None:
    claimed = await depot.start()
    await depot.lapse(claimed.id)

    assert await depot.renew((claimed.id, claimed.fence)) == []
    assert (await depot.claim(depot.bob)).tasks == []
    assert await depot.finish(claimed) == "finished"


async def test_a_task_that_waits_for_an_answer_keeps_its_lease(depot: Depot) -> None:
    claimed = await depot.start()
    await depot.ann.ask(claimed.id, claimed.fence, [question(1)])

    assert await depot.renew((claimed.id, claimed.fence)) == []


@pytest.mark.parametrize("fence", [0, 2, 99])
async def test_a_renewal_under_another_fence_is_lost_and_changes_nothing(depot: Depot, fence: int) -> None:
    claimed = await depot.start()

    async with depot.nothing_changes():
        assert await depot.renew((claimed.id, fence)) == [claimed.id]


async def test_a_renewal_tells_each_lease_that_is_lost_and_keeps_the_others(depot: Depot) -> None:
    kept, cancelled, finished, released, reclaimed = [await depot.start() for _ in range(5)]
    await depot.store.cancel(cancelled.id, OWNER)
    await depot.finish(finished)
    await depot.release(released)
    await depot.lapse(reclaimed.id)
    await depot.take(reclaimed.id, depot.bob)
    held = [(task.id, task.fence) for task in (cancelled, kept, finished, released, reclaimed)]

    lost = await depot.renew(*held, ("never-seen", 1))

    assert lost == [cancelled.id, finished.id, released.id, reclaimed.id, "never-seen"]
    assert await depot.redis.get(depot.keys.in_progress(reclaimed.id)) == b"2"


async def test_a_worker_that_holds_nothing_renews_nothing(depot: Depot) -> None:
    assert await depot.renew() == []


async def test_a_presence_renews_and_shows_the_worker_for_as_long_as_a_lease(depot: Depot) -> None:
    claimed, cancelled = await depot.start(), await depot.start()
    await depot.store.cancel(cancelled.id, OWNER)
    presence = Presence(depot.settings, depot.ann, "ann")

    lost = presence.renew([(claimed.id, 1), (cancelled.id, 1)], {"worker": "ann", "running": 1})

    assert lost == [cancelled.id]
    assert await depot.store.workers() == [{"worker": "ann", "running": 1}]
    assert 50_000 < await depot.redis.pttl(depot.keys.worker("ann")) <= 60_000

    presence.leave()

    assert await depot.store.workers() == []


async def test_a_presence_without_tasks_still_shows_the_worker(depot: Depot) -> None:
    presence = Presence(depot.settings, depot.ann, "ann")

    assert presence.renew([], {"worker": "ann"}) == []
    assert await depot.store.workers() == [{"worker": "ann"}]

    presence.leave()


async def test_a_presence_says_when_there_is_no_store_and_comes_back_by_itself(
    depot: Depot, settings: StoreSettings
) -> None:
    """Whatever the connection went through, the next call makes a new one."""
    claimed = await depot.start()
    presence = Presence(settings, depot.ann, "ann")
    presence.renew([], {"worker": "ann"})
    await depot.redis.client_kill_filter(_type="normal", skipme=True)

    with fail_after(5):
        while True:
            try:
                lost = presence.renew([(claimed.id, 1)], {"worker": "ann"})
                break
            except StoreUnavailable:
                await sleep(0.01)
    assert lost == []
    presence.leave()


async def test_a_presence_without_redis_is_store_unavailable_and_can_still_leave(depot: Depot) -> None:
    nowhere = depot.with_settings(redis_url="unix:///nowhere/redis.sock")
    presence = Presence(nowhere.settings, nowhere.ann, "ann")

    with pytest.raises(StoreUnavailable):
        presence.renew([("t", 1)], {})
    presence.leave()


async def test_the_name_of_a_worker_that_died_is_forgotten(depot: Depot) -> None:
    Presence(depot.settings, depot.ann, "ann").renew([], {"worker": "ann"})
    Presence(depot.settings, depot.bob, "bob").renew([], {"worker": "bob"})
    await depot.redis.delete(depot.keys.worker("ann"))

    assert await depot.store.workers() == [{"worker": "bob"}]
    assert await depot.redis.smembers(depot.keys.workers) == {b"bob"}  # type: ignore[misc]
    assert 170_000 < await depot.redis.pttl(depot.keys.workers) <= 180_000
