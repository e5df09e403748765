"""Webhooks in Redis: written by the move that ends a task, taken for a lease, and kept until they are delivered."""

import base64
from datetime import timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

from taskmill.engine.errors import SettingsError
from taskmill.engine.outcome import Failed, OutcomeKind, Returned
from taskmill.engine.principal import ANONYMOUS
from taskmill.store.scripts import Scripts
from taskmill.store.seal_keys import open_keys, sealer_of
from taskmill.store.settings import StoreSettings, read_settings
from taskmill.store.tasks.tasks import OPERATOR
from taskmill.store.webhooks.deliveries import MOST_LISTED, Delivery, DeliveryStore
from tests.support.store_fixture import DONE, StoreFixture
from tests.support.waiting import eventually_async
from tests.support.webhook_receiver import ALL_ENDS, SECRET

MINUTE = timedelta(minutes=1)


@pytest.fixture
def stores(redis: Redis, settings: StoreSettings) -> StoreFixture:
    return StoreFixture(redis, settings)


def deliveries_of(stores: StoreFixture) -> DeliveryStore:
    return DeliveryStore(stores.redis, stores.settings, Scripts(stores.keys), stores.keys)


async def taken(stores: StoreFixture, app: str = "", lease: timedelta = MINUTE) -> list[Delivery]:
    return (await deliveries_of(stores).take(app, 10, lease))[1]


async def kept(stores: StoreFixture) -> list[bytes]:
    """The keys of all webhooks."""
    return [key for key in await stores.redis.keys("*") if b"webhook" in key or b"deliver" in key]


async def finish(stores: StoreFixture, outcome: Returned = DONE, **changes: object) -> str:
    """A task that a worker has ended; its id."""
    task = await stores.start(**{"webhook": ALL_ENDS, **changes})
    call = stores.ann.finish_call(task.id, task.fence, outcome)
    await stores.ann.run_batch([call])
    return task.id


async def test_each_end_is_written_with_the_move_that_ends_the_task(stores: StoreFixture) -> None:
    succeeded = await finish(stores)
    failed = await finish(stores, Returned(DONE.value, is_error=True))
    cancelled = await stores.create(webhook=ALL_ENDS)
    await stores.store.cancel(cancelled, OPERATOR, reason="operator")
    overdue = await stores.create(webhook=ALL_ENDS, deadline=timedelta(milliseconds=1))
    deadline = (await stores.store.read(overdue, OPERATOR)).record.deadline_ms or 0
    await eventually_async(stores.store.now_ms, lambda now: now > deadline)
    await stores.claim()
    given_up = stores.with_settings(crash_limit=0, lease=0.3)
    poisoned = (await given_up.start(webhook=ALL_ENDS)).id
    await eventually_async(lambda: given_up.claim(), lambda claims: claims.tasks == [] and claims.wait_ms is None)
    found = {one.task_id: one.view.record.outcome_kind for one in await taken(stores)}
    assert found == {
        succeeded: OutcomeKind.SUCCEEDED,
        failed: OutcomeKind.TOOL_ERROR,
        cancelled: OutcomeKind.CANCELLED,
        overdue: OutcomeKind.FAILED,
        poisoned: OutcomeKind.FAILED,
    }


async def test_only_the_ends_that_are_wanted_are_written_and_nothing_without_a_webhook(stores: StoreFixture) -> None:
    await finish(stores, webhook="")
    await finish(stores, webhook="failed crashed")
    assert await kept(stores) == []


async def test_a_rerun_has_the_webhook_of_the_task_that_it_repeats(stores: StoreFixture) -> None:
    task_id = await finish(stores, Returned(DONE.value, is_error=True), webhook="tool_error")
    again = await stores.store.prepare_rerun(task_id, OPERATOR)
    assert again.webhook == "tool_error"


async def test_only_workers_of_the_same_app_take_it_from_whatever_stack(stores: StoreFixture) -> None:
    task_id = await stores.create(webhook=ALL_ENDS, queue="shop~1+stack/slow")
    await stores.store.cancel(task_id, OPERATOR)
    assert await taken(stores, "") == await taken(stores, "other") == []
    assert [one.task_id for one in await taken(stores, "shop~1+later")] == [task_id]


async def test_who_has_lost_its_lease_can_change_nothing(stores: StoreFixture) -> None:
    task_id, deliveries = await finish(stores), deliveries_of(stores)
    (first,) = await taken(stores, lease=timedelta(milliseconds=1))
    (second,) = await eventually_async(lambda: taken(stores))
    assert not await deliveries.delivered(first)
    assert not await deliveries.give_up(first, "late")
    assert await taken(stores) == []  # it is leased
    assert await deliveries.delivered(second)
    assert await deliveries.undelivered(None, limit=10) == []
    assert await kept(stores) == []
    assert first.task_id == second.task_id == task_id


async def test_it_outlives_its_task(stores: StoreFixture) -> None:
    task_id = await finish(stores, retention=timedelta(milliseconds=1))
    await eventually_async(lambda: stores.redis.exists(stores.keys.record(task_id)), lambda there: not there)
    (delivery,) = await taken(stores)
    assert (delivery.task_id, delivery.view.record.tool) == (task_id, "count")
    assert await deliveries_of(stores).delivered(delivery)


async def test_what_is_given_up_is_listed_until_it_is_tried_again(stores: StoreFixture) -> None:
    first, second, deliveries = await finish(stores), await finish(stores), deliveries_of(stores)
    one, other = await taken(stores)
    await deliveries.give_up(one, "gone")
    await deliveries.try_later(other, MINUTE, tries=1, why="away")
    listed = {found.task_id: found for found in await deliveries.undelivered("", limit=10)}
    assert (listed[one.task_id].is_given_up, listed[one.task_id].error, listed[one.task_id].tries) == (True, "gone", 1)
    assert (listed[other.task_id].is_given_up, listed[other.task_id].error) == (False, "away")
    assert listed[other.task_id].next_ms is not None
    assert await deliveries.undelivered("another", limit=10) == []
    assert [found.task_id for found in await deliveries.undelivered(None, limit=10, given_up=True)] == [one.task_id]
    due = stores.keys.deliveries("")
    await stores.redis.zadd(due, {one.task_id: 1, other.task_id: 1}, xx=True)
    assert [found.task_id for found in await taken(stores)] == [other.task_id], "what is given up is tried no more"
    assert await deliveries.retry(one.task_id)
    (again,) = await taken(stores)
    assert (again.task_id, again.tries, again.is_given_up, again.error) == (one.task_id, 0, False, None)
    assert {first, second} == {one.task_id, other.task_id}


async def test_a_worker_takes_no_more_than_it_can_send_and_only_what_is_due(stores: StoreFixture) -> None:
    ids, deliveries = [await finish(stores) for _ in range(3)], deliveries_of(stores)
    (first,) = (await deliveries.take("", 1, MINUTE))[1]
    assert first.task_id == ids[0]
    await deliveries.try_later(first, timedelta(milliseconds=1), tries=1, why="away")
    assert [one.task_id for one in (await deliveries.take("", 2, MINUTE))[1]][-1] in ids[1:]
    again = await eventually_async(lambda: taken(stores), lambda found: first.task_id in [one.task_id for one in found])
    assert [one.tries for one in again if one.task_id == first.task_id] == [1]


async def test_what_an_operator_may_look_at_is_kept_for_thirty_days_from_the_last_change(stores: StoreFixture) -> None:
    task_id, deliveries = await finish(stores), deliveries_of(stores)
    names = stores.keys.webhook(task_id), stores.keys.deliveries("")
    (delivery,) = await taken(stores)
    for change in (deliveries.give_up(delivery, "gone"), deliveries.retry(task_id)):
        for name in names:
            await stores.redis.expire(name, 1000)
        await change
        assert await stores.redis.ttl(names[0]) > 29 * 86400
    assert await stores.redis.ttl(names[1]) > 29 * 86400


async def test_a_list_has_the_latest_ends_first_and_goes_on_behind_what_it_leaves_out(stores: StoreFixture) -> None:
    ids = [await finish(stores) for _ in range(3)]
    await stores.redis.zadd(stores.keys.webhooks, {task_id: at for at, task_id in enumerate(ids)})
    await stores.redis.zadd(stores.keys.webhooks, {f"expired{number}": 9 for number in range(MOST_LISTED)})
    listed = [one.task_id for one in await deliveries_of(stores).undelivered(None, limit=2)]
    assert listed == [ids[2], ids[1]]
    await stores.redis.flushall()


async def test_a_result_that_cannot_be_opened_here_is_told_of_as_unreadable(stores: StoreFixture) -> None:
    old, new = (base64.b64encode(bytes([number] * 32)).decode() for number in (1, 2))
    task = await stores.with_settings(seal_keys=old).start(webhook=ALL_ENDS)
    await stores.with_settings(seal_keys=old).finish(task)
    (delivery,) = await taken(stores.with_settings(seal_keys=new, webhook_result=True, webhook_secret=SECRET))
    assert (delivery.task_id, delivery.view.record.reason) == (task.id, "unreadable")
    assert isinstance(delivery.view.outcome, Failed)


async def test_a_result_whose_key_has_not_come_yet_is_sent_once_it_has_and_holds_up_no_other(
    stores: StoreFixture, tmp_path: Path
) -> None:
    """Files of keys reach workers at different times."""
    old, new = (base64.b64encode(bytes([number] * 32)).decode() for number in (1, 2))
    file = tmp_path / "keys"
    file.write_text(old)
    late = stores.with_settings(seal_keys_file=file, seal_keys_refresh=0.05, webhook_result=True, webhook_secret=SECRET)
    for_later = await stores.with_settings(seal_keys=new).start(webhook=ALL_ENDS)
    await stores.with_settings(seal_keys=new).finish(for_later)
    async with open_keys(late.settings):
        for_now = await late.start(webhook=ALL_ENDS)
        await late.finish(for_now)
        assert [one.task_id for one in await taken(late)] == [for_now.id]
        file.write_text(f"{old}\n{new}\n")
        await eventually_async(lambda: len(sealer_of(late.settings).ring.keys), lambda keys: keys == 2)
        await stores.redis.zadd(stores.keys.deliveries(""), {for_later.id: 1})
        (delivery,) = await taken(late)
        assert (delivery.task_id, delivery.view.outcome) == (for_later.id, DONE)


async def test_one_whose_facts_are_gone_is_forgotten(stores: StoreFixture) -> None:
    task_id = await finish(stores)
    await stores.redis.delete(stores.keys.webhook(task_id))
    assert await taken(stores) == []
    assert await stores.redis.exists(stores.keys.webhooks, stores.keys.deliveries("")) == 0


async def test_a_receiver_that_is_away_does_not_fill_redis(stores: StoreFixture) -> None:
    oldest = await finish(stores)
    later = await stores.store.now_ms() + 1
    fill = "for i = 1, ARGV[1] do redis.call('ZADD', KEYS[1], ARGV[2], i) end"
    await stores.redis.eval(fill, 1, stores.keys.webhooks, 100_000 - 2, later)  # type: ignore[misc]
    latest = await finish(stores)
    assert await stores.redis.exists(stores.keys.webhook(oldest)) == 1
    await finish(stores)
    assert await stores.redis.exists(stores.keys.webhook(oldest)) == 0
    assert await stores.redis.zcard(stores.keys.webhooks) == 100_000
    assert latest in [one.task_id for one in await taken(stores)]
    await stores.redis.flushall()


async def test_a_full_redis_takes_what_came_of_a_webhook(stores: StoreFixture) -> None:
    """Else it would stay full: what is delivered is deleted."""
    for _ in range(3):
        await finish(stores)
    deliveries = deliveries_of(stores)
    await stores.redis.config_set("maxmemory", 1)
    try:
        first, second, third = await taken(stores)
        assert await deliveries.delivered(first)
        assert await deliveries.give_up(second, "gone")
        assert await deliveries.try_later(third, MINUTE, tries=1, why="away")
    finally:
        await stores.redis.config_set("maxmemory", 0)
    assert len(await deliveries.undelivered(None, limit=10)) == 2


async def test_with_seal_keys_nothing_of_a_call_stands_there_in_clear(stores: StoreFixture) -> None:
    key = base64.b64encode(bytes(32)).decode()
    sealed = stores.with_settings(seal_keys=key, webhook_result=True, webhook_secret=SECRET)
    task = await sealed.start(webhook=ALL_ENDS, arguments={"text": "in confidence"}, principal=ANONYMOUS)
    outcome = Returned({"content": [{"type": "text", "text": "in confidence"}]})
    await sealed.ann.run_batch([sealed.ann.finish_call(task.id, task.fence, outcome)])
    stored = [await stores.redis.dump(name) for name in await stores.redis.keys("*")]
    assert not any(b"in confidence" in value for value in stored if value)
    (delivery,) = await taken(sealed)
    assert delivery.view.outcome == outcome
    await deliveries_of(sealed).delivered(delivery)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"webhook_url": "https://a.example"}, "TASKMILL_WEBHOOK_URL: it needs TASKMILL_WEBHOOK_SECRET"),
        ({"webhook_url": "ftp://a.example", "webhook_secret": SECRET}, "must begin with https://"),
        ({"webhook_url": "http://a.example", "webhook_secret": SECRET}, "http is for private hosts"),
        (
            {"webhook_url": "https://me:hunter2@a.example", "webhook_secret": SECRET},
            "must have no user and no password",
        ),
        ({"webhook_url": "https://a.example:none", "webhook_secret": SECRET}, "a host or a port that is none"),
        ({"webhook_secret": "whsec_c2hvcnQ="}, "TASKMILL_WEBHOOK_SECRET: every secret must have 24 to 64 bytes"),
        ({"webhook_secret": "whsec_!"}, "every secret must be whsec_ and base64"),
        ({"webhook_secret": SECRET, "webhook_secret_file": "file"}, "secrets come from one place"),
        ({"webhook_events": "finished"}, "it must be some of succeeded"),
    ],
)
def test_settings_that_cannot_work_say_what_to_do_and_show_no_secret(given: dict[str, str], fault: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read_settings(StoreSettings, **given)
    assert fault in str(raised.value)
    assert not any(secret in str(raised.value) for secret in (SECRET, "c2hvcnQ", "hunter2"))
