"""What one principal may keep, and what a Redis that is nearly full still takes."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from taskmill.engine.errors import QuotaExceeded, StoreFull
from taskmill.engine.outcome import Refused, Returned
from taskmill.engine.principal import ANONYMOUS, PrincipalLimits
from taskmill.engine.status import Status
from tests.support.store_fixture import OWNER, STRANGER, StoreFixture

HOUR = timedelta(hours=1)
SIZES = {"max_arguments": 2_000_000, "max_result": 2_000_000, "max_chunk": 65_536, "max_output": 1_048_576}
LARGE = Returned({"content": [{"type": "text", "text": "x" * 400_000}]})
FAILURE = Refused(-32000, "no")


async def refusal(stores: StoreFixture, **changes: object) -> QuotaExceeded:
    """Why a creation is refused, which changes nothing."""
    async with stores.nothing_changes():
        with pytest.raises(QuotaExceeded) as refused:
            await stores.create(**changes)
    return refused.value


async def test_ended_tasks_count_for_their_owner_until_they_expire(stores: StoreFixture) -> None:
    strict = stores.with_settings(kept_limit=2)
    for _ in range(2):
        await strict.finish(await strict.start(retention=HOUR))

    refused = await refusal(strict)

    assert str(refused).startswith(
        "2 tasks of yours have ended and are kept; 2 is the limit. The first of them expires"
    )
    assert (refused.facts["limit"], refused.facts["allowed"], refused.facts["used"]) == ("kept_tasks", 2, 2)
    assert await strict.create(principal=STRANGER)


async def test_expired_tasks_count_no_longer_although_no_one_was_there(stores: StoreFixture) -> None:
    strict = stores.with_settings(kept_limit=1)
    await strict.finish(await strict.start(retention=timedelta(seconds=2)))
    (ends,) = await stores.redis.hkeys(stores.keys.kept(OWNER))
    assert str(await refusal(strict))

    await strict.wait_until_ms(int(ends))

    assert await strict.create()


async def test_results_and_arguments_of_failures_count_in_bytes(stores: StoreFixture) -> None:
    """The arguments of a failure are kept as long as the task; those of a success are deleted at its end."""
    strict = stores.with_settings(kept_bytes_limit=1_200_000, **SIZES)
    large = {"text": "x" * 400_000}
    for _ in range(3):
        await strict.finish(await strict.start(arguments=large))
    await strict.finish(await strict.start(), LARGE)
    await strict.finish(await strict.start(arguments=large), FAILURE)

    refused = await refusal(strict, arguments=large)

    assert refused.facts["limit"] == "kept_bytes"
    assert 1_200_000 < refused.facts["used"] < 1_230_000
    assert await strict.create(arguments={"text": "x" * 100_000})


async def test_arguments_of_open_tasks_count_in_bytes(stores: StoreFixture) -> None:
    strict = stores.with_settings(kept_bytes_limit=1_200_000, **SIZES)
    first = await strict.create(arguments={"text": "x" * 700_000})
    assert await refusal(strict, arguments={"text": "x" * 700_000})

    await strict.finish(await strict.take(first))

    assert await strict.create(arguments={"text": "x" * 700_000})


async def test_output_of_a_task_counts_in_bytes(stores: StoreFixture) -> None:
    strict = stores.with_settings(kept_bytes_limit=300_000, **SIZES)
    task = await strict.start()
    for number in range(5):
        await strict.output.add(task.id, task.fence, [strict.output.pack(task.id, "x" * 60_000)], batch_id=str(number))
    await strict.finish(task)

    assert (await refusal(strict)).facts["limit"] == "kept_bytes"


async def test_callers_without_authentication_are_not_counted(stores: StoreFixture) -> None:
    strict = stores.with_settings(kept_limit=1, kept_bytes_limit=1, **SIZES)
    for _ in range(2):
        await strict.finish(await strict.start(principal=ANONYMOUS), LARGE)

    assert await strict.create(principal=ANONYMOUS)
    assert not await stores.redis.exists(stores.keys.kept(ANONYMOUS))


async def test_a_task_may_bring_the_limits_of_its_owner(stores: StoreFixture) -> None:
    strict = stores.with_settings(kept_limit=1)
    await strict.finish(await strict.start())

    assert await strict.create(limits=PrincipalLimits())
    assert (await refusal(strict, limits=PrincipalLimits(open_tasks=1))).facts["limit"] == "open_tasks"


async def test_what_is_kept_is_not_asked_for_while_redis_holds_less_than_one_may_keep(stores: StoreFixture) -> None:
    await stores.create()
    await stores.redis.config_resetstat()

    await stores.create()

    assert "cmdstat_hgetall" not in await stores.redis.info("commandstats")


@pytest.fixture
async def roomy(stores: StoreFixture) -> StoreFixture:
    """Accepts large arguments and results."""
    return stores.with_settings(**SIZES)


@pytest.fixture
async def full(redis: Redis) -> AsyncIterator[Redis]:
    """Makes Redis full, by its `maxmemory`, when called for; afterwards it has no limit again."""
    yield redis
    await redis.config_set("maxmemory", 0)


async def fill(redis: Redis) -> None:
    """Have Redis refuse what needs memory from now on."""
    await redis.config_set("maxmemory", 1)


async def test_a_redis_that_is_nearly_full_refuses_new_tasks_in_words(stores: StoreFixture, full: Redis) -> None:
    used: int = (await full.info("memory"))["used_memory"]
    await full.config_set("maxmemory", int(used / 0.95))

    with pytest.raises(StoreFull, match=r"is 9\d % full: new tasks are refused from 90 % on") as refused:
        await stores.with_settings().create()
    with pytest.raises(StoreFull):
        await stores.with_settings().store.check_room()
    assert refused.value.facts["retry_after"] == 30
    assert await stores.with_settings(redis_full_at=0).create()


async def test_a_full_redis_takes_claims_renewals_releases_cancels_and_ends(stores: StoreFixture, full: Redis) -> None:
    first, second = await stores.create(), await stores.create()
    delayed = await stores.start()
    await stores.release(delayed, delay=60)
    await stores.lapse(delayed.id)
    await fill(full)

    done, given_back = await stores.take(first), await stores.take(second)
    assert await stores.renew((done.id, done.fence)) == []
    await full.delete(stores.keys.in_progress(done.id))
    assert await stores.renew((done.id, done.fence)) == []
    assert await stores.finish(done) == "finished"
    assert await stores.release(given_back) == "released"
    assert await stores.store.cancel(second, OWNER)
    assert (await stores.record(first)).status is Status.COMPLETED
    assert (await stores.record(second)).status is Status.CANCELLED


async def test_a_large_result_finds_no_room_in_a_full_redis_and_a_small_one_does(
    roomy: StoreFixture, full: Redis
) -> None:
    task = await roomy.start()
    await fill(full)

    assert await roomy.finish(task, LARGE) == "full"
    assert (await roomy.record(task.id)).status is Status.RUNNING
    assert await roomy.finish(task, FAILURE) == "finished"


async def test_large_results_are_sent_in_calls_of_their_own(roomy: StoreFixture, full: Redis) -> None:
    """A full Redis refuses the first write of a call only."""
    tasks = [await roomy.start() for _ in range(3)]
    huge = Returned({"content": [{"type": "text", "text": "x" * 900_000}]})
    await fill(full)

    replies = await roomy.run(*(roomy.ann.finish_call(task.id, task.fence, huge) for task in tasks))

    assert replies == [b"full"] * 3
