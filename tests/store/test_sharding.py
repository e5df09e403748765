"""Queues on two Redis servers: each task lives on its queue's, any process finds it, and one may be away."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest
from anyio import fail_after, sleep
from redis.asyncio import Redis

from taskmill.engine.artifact import Artifact
from taskmill.engine.errors import (
    IdempotencyKeyReused,
    QuotaExceeded,
    RedisUnfit,
    SettingsError,
    StoreUnavailable,
    TaskNotFound,
)
from taskmill.engine.principal import new_task_id
from taskmill.engine.record import NewTask
from taskmill.engine.status import Status
from taskmill.store.formats.filters import TaskFilter
from taskmill.store.formats.keys import Keys
from taskmill.store.formats.paging import Slice, merged
from taskmill.store.opening import open_store
from taskmill.store.settings import StoreSettings, read_settings
from taskmill.store.shards import id_on_shard, shard_of_id
from taskmill.store.tasks.tasks import OPERATOR, TaskStore
from tests.support.invariants import broken_promises, read_redis
from tests.support.redis_server import PrivateRedis
from tests.support.store_fixture import DONE, OWNER, STRANGER, StoreFixture
from tests.support.waiting import PROMPTLY


@pytest.fixture(scope="module")
def servers() -> Iterator[list[PrivateRedis]]:
    """The Redis at home, and that of shard `reports`."""
    with ExitStack() as stack:
        yield [stack.enter_context(PrivateRedis(appendonly="yes", appendfsync="no")) for _ in range(2)]


@pytest.fixture
async def sound(servers: list[PrivateRedis]) -> AsyncIterator[None]:
    """Both are empty at the beginning, and sound by themselves at the end."""
    for server in servers:
        async with Redis.from_url(server.url) as redis:
            await redis.flushall()
    yield
    for server in servers:
        async with Redis.from_url(server.url) as redis:
            assert broken_promises(await read_redis(redis)) == []


@pytest.fixture
def settings(servers: list[PrivateRedis]) -> StoreSettings:
    home, reports = servers
    return StoreSettings(redis_url=home.url, shards={"reports": reports.url}, lease=60, command_timeout=5)


@pytest.fixture
async def store(settings: StoreSettings) -> AsyncIterator[TaskStore]:
    async with open_store(settings) as opened:
        yield opened


@asynccontextmanager
async def shard(settings: StoreSettings, name: str) -> AsyncIterator[StoreFixture]:
    """Workers of one shard."""
    of = settings.at_shard(name)
    async with Redis.from_url(of.redis_url or "") as redis:
        yield StoreFixture(redis, of)


def task(store: TaskStore, queue: str = "default", **changes: Any) -> NewTask:
    task_id = store.new_id(queue)
    whose = {"tool": "count", "principal": OWNER}
    given = {**whose, "payload": store.pack(task_id, {"n": 1}, **whose), "queue": queue}
    return NewTask(id=task_id, **{**given, **changes})


async def create(store: TaskStore, queue: str = "default", **changes: Any) -> str:
    return (await store.create(task(store, queue, **changes))).record.id


async def start(store: TaskStore, stores: StoreFixture, queue: str) -> Any:
    task_id = await create(store, queue)
    _, claims = await stores.ann.run_batch([], stores.ann.claim_call(queue, 1, ids=[task_id]))
    assert claims is not None
    return claims.tasks[0]


async def test_a_task_is_on_the_redis_of_its_queue_and_nowhere_else(
    store: TaskStore, servers: list[PrivateRedis]
) -> None:
    at_home, elsewhere = await create(store), await create(store, "reports")
    assert (shard_of_id(at_home), shard_of_id(elsewhere)) == ("home", "reports")
    assert (len(at_home), len(elsewhere)) == (43, 43 + len(".reports"))
    for server, own, other in zip(servers, (at_home, elsewhere), (elsewhere, at_home), strict=True):
        async with Redis.from_url(server.url) as redis:
            assert await redis.exists(store.keys.record(own)) == 1
            assert [name async for name in redis.scan_iter(f"*{other}*")] == []


async def test_every_verb_finds_the_task_by_its_id(store: TaskStore, settings: StoreSettings) -> None:
    async with shard(settings, "reports") as reports:
        claimed = await start(store, reports, "reports")
        assert (await store.read(claimed.id, OWNER)).record.status is Status.RUNNING
        with pytest.raises(TaskNotFound):
            await store.read(claimed.id, STRANGER)
        await reports.ann.ask(claimed.id, claimed.fence, [])
        await reports.run(reports.ann.finish_call(claimed.id, claimed.fence, DONE, reason="tool_error"))
        again = await store.rerun(claimed.id, OWNER, once="key")
        assert shard_of_id(again.record.id) == "reports"
        assert (await store.rerun(claimed.id, OWNER, once="key")).record.id == again.record.id
        assert await store.cancel(again.record.id, OWNER)
        assert [event.move.value for event in await store.history(again.record.id)] == ["create", "cancel"]


@pytest.mark.parametrize(
    "wrong",
    [new_task_id(), new_task_id() + ".reports", new_task_id() + ".nowhere", "..", ".home"],
    ids=["no shard", "a shard", "a shard that there is not", "dots", "no id"],
)
async def test_an_id_of_no_task_is_unknown_whatever_shard_it_names(store: TaskStore, wrong: str) -> None:
    with pytest.raises(TaskNotFound):
        await store.read(wrong, OPERATOR)


async def test_ids_from_before_there_were_shards_are_found(store: TaskStore, settings: StoreSettings) -> None:
    """`reports` was a queue at home then, and has tasks there still."""
    async with shard(settings, "home") as before:
        task_id = await before.create(queue="reports")
    assert (await store.read(task_id, OWNER)).record.queue == "reports"
    moved = await create(store, "reports")
    stats = await store.stats(["reports"])
    assert [(queue.name, queue.due) for queue in stats.queues] == [("reports", 2)]
    assert {view.record.id for view in (await store.page(OPERATOR)).views} == {task_id, moved}


async def test_a_queue_can_be_kept_on_the_default_shard_or_on_one_of_another_name(settings: StoreSettings) -> None:
    mapped = settings.model_copy(update={"queue_shards": {"reports": "home", "exports": "reports"}})
    assert [mapped.shard_of(queue) for queue in ("reports", "exports", "default")] == ["home", "reports", "home"]
    async with open_store(mapped) as store:
        assert [shard_of_id(await create(store, queue)) for queue in ("reports", "exports")] == ["home", "reports"]


async def test_events_output_and_news_come_from_each_tasks_own_shard(store: TaskStore, settings: StoreSettings) -> None:
    async with shard(settings, "home") as home, shard(settings, "reports") as reports:
        first, second = await start(store, home, "default"), await start(store, reports, "reports")
        async with store.feed.follow(first.id, second.id) as news, store.tails.follow(second.id) as events:
            seen = set()
            with fail_after(30):
                while seen != {first.id, second.id}:
                    seen |= set(await news.updates())
                output = reports.output
                await output.add(second.id, second.fence, [output.pack(second.id, "half")])
                async with store.output.follow(second.id) as emitted:
                    assert await emitted.updates() == [second.id]
                assert [chunk.content for chunk in await store.output.read(second.id)] == ["half"]
                await reports.finish(second)
                assert await news.updates() == [second.id]
                assert [event.move.value async for event in events] == ["create", "claim", "complete"]
                await home.finish(first)
                assert await news.updates() == [first.id]


async def test_an_artifact_is_found_by_its_id_on_its_tasks_shard(store: TaskStore, settings: StoreSettings) -> None:
    async with shard(settings, "reports") as reports:
        claimed = await start(store, reports, "reports")

        async def content() -> AsyncIterator[bytes]:
            yield b"a report"

        writing = reports.store.artifacts.write(
            content(), task_id=claimed.id, principal=OWNER, name="r.txt", mime_type="x/y"
        )
        made: Artifact = await writing
        await reports.store.artifacts.attach(made, claimed.fence)
        await reports.finish(claimed)
    found = await store.artifacts.find(made.id, OWNER)
    assert b"".join([piece async for piece in store.artifacts.read(found)]) == b"a report"
    with pytest.raises(TaskNotFound):
        await store.artifacts.find(made.id, STRANGER)


@pytest.mark.parametrize("limit", [1, 3, 7, 200])
async def test_pages_hold_every_task_of_all_shards_once_newest_first(store: TaskStore, limit: int) -> None:
    queues = ["default", "reports", "reports", "default", "default", "reports", "reports", "reports", "default"]
    made = [await create(store, queue, listed_for="ann") for queue in queues]
    seen: list[str] = []
    cursor = None
    while True:
        page = await store.page("ann", after=cursor, limit=limit)
        assert len(page.views) <= limit
        assert page.unreachable == ()
        seen += [view.record.id for view in page.views]
        cursor = page.next
        if cursor is None:
            break
    assert seen == made[::-1]


async def test_a_page_ends_where_a_shard_has_not_read_further(store: TaskStore) -> None:
    """what one shard has behind that place may be newer than what another has."""
    await create(store)
    (view,) = (await store.page(OPERATOR)).views
    busy = Slice((((b"90", b"a"), view),), behind=(b"50", b"x"))
    quiet = Slice((((b"60", b"b"), view), ((b"40", b"c"), view)), behind=None)
    page = merged([busy, quiet], 10, unreachable=())
    assert ([place for place, _ in page.rows], page.behind) == ([(b"90", b"a"), (b"60", b"b")], (b"50", b"x"))


async def test_a_filtered_page_passes_over_what_each_shard_does_not_have(store: TaskStore) -> None:
    made = [await create(store, queue, tool=tool) for queue in ("default", "reports") for tool in ("a", "b", "a")]
    page = await store.page(OPERATOR, where=TaskFilter(tool="b"))
    assert [view.record.id for view in page.views] == [made[4], made[1]]


async def test_the_open_tasks_of_all_shards_count_in_one_quota(settings: StoreSettings) -> None:
    for changes, words in (({"open_limit": 3}, "You have 3 open"), ({"open_limit_total": 3}, "This server has 3 open")):
        for server in (settings.redis_url, settings.shards["reports"]):
            async with Redis.from_url(server or "") as redis:
                await redis.flushall()
        async with open_store(settings.model_copy(update=changes)) as store:
            await create(store)
            await create(store, "reports")
            await create(store, "reports")
        async with open_store(settings.model_copy(update=changes)) as store:  # one that has not looked yet
            for queue in ("default", "reports"):
                with pytest.raises(QuotaExceeded, match=words):
                    await create(store, queue)


@pytest.mark.parametrize("who", [OWNER, OPERATOR], ids=["owner", "operator"])
async def test_a_rerun_counts_the_open_tasks_of_all_shards(settings: StoreSettings, who: str) -> None:
    """An operator's too: the quota is that of the task's owner."""
    async with open_store(settings.model_copy(update={"open_limit": 2})) as store:
        ended = await create(store, "reports")
        assert await store.cancel(ended, OWNER)
        await create(store)
    async with open_store(settings.model_copy(update={"open_limit": 2})) as store:  # one that has not looked yet
        assert (await store.rerun(ended, who)).record.status is Status.PENDING
        with pytest.raises(QuotaExceeded, match="You have 2 open"):
            await store.rerun(ended, who)


async def test_an_idempotency_key_holds_also_after_its_queue_has_moved(settings: StoreSettings) -> None:
    before = settings.model_copy(update={"queue_shards": {"reports": "home"}})
    async with open_store(before) as store:
        first = await create(store, "reports", idempotency="k", idempotency_of="call")
    async with open_store(settings) as store:
        assert await create(store, "reports", idempotency="k", idempotency_of="call") == first
        with pytest.raises(IdempotencyKeyReused):
            await create(store, "reports", idempotency="k", idempotency_of="another call")
        await store.cancel(first, OWNER)
        assert shard_of_id(await create(store, "reports", idempotency="k", idempotency_of="call")) == "reports"


async def test_a_dead_shard_stops_no_other_and_comes_back(
    store: TaskStore, settings: StoreSettings, servers: list[PrivateRedis]
) -> None:
    async with shard(settings, "home") as home:
        lost, kept = await create(store, "reports"), await create(store)
        await asyncio.to_thread(servers[1].kill)
        try:
            for call in (store.read(lost, OWNER), store.cancel(lost, OWNER), create(store, "reports")):
                with pytest.raises(StoreUnavailable, match=r"^Shard reports: Redis cannot be reached right now\."):
                    await call
            claimed = await home.take(kept)
            assert await home.finish(claimed) == "finished"
            assert (await store.read(await create(store), OWNER)).record.status is Status.PENDING
            page = await store.page(OPERATOR)
            assert (len(page.views), page.unreachable) == (2, ("reports",))
            stats = await store.stats(["default", "reports"])
            assert (stats.open, stats.unreachable) == (1, ("reports",))
            assert await store.unreachable() == ("reports",)
            await store.ping()
            async with open_store(settings) as late:  # a replica that starts meanwhile
                assert (await late.read(kept, OWNER)).record.status is Status.COMPLETED
                await asyncio.to_thread(servers[1].start)
                with fail_after(30):
                    while await late.unreachable():
                        await sleep(0.05)
                assert (await late.read(lost, OWNER)).record.status is Status.PENDING
        finally:
            if servers[1].process is None:
                await asyncio.to_thread(servers[1].start)
        assert (await store.read(lost, OWNER)).record.id == lost
        assert (await store.page(OPERATOR)).unreachable == ()


async def test_a_silent_shard_holds_no_creation_up_elsewhere(
    settings: StoreSettings, servers: list[PrivateRedis]
) -> None:
    """The slow store waits for a minute until the silent Redis counts as unreachable."""
    process = servers[1].process
    assert process is not None
    slow, fast = (settings.model_copy(update={"command_timeout": seconds}) for seconds in (60.0, 0.5))
    async with open_store(slow) as store, open_store(fast) as other:
        await create(store, "reports")
        process.send_signal(signal.SIGSTOP)
        try:
            with fail_after(PROMPTLY):
                await create(store, principal=STRANGER, idempotency="k")
            with fail_after(30), pytest.raises(StoreUnavailable, match="Shard reports"):
                await create(other, "reports")
        finally:
            process.send_signal(signal.SIGCONT)


async def test_without_the_default_shard_tasks_of_the_others_go_on(
    store: TaskStore, settings: StoreSettings, servers: list[PrivateRedis]
) -> None:
    async with shard(settings, "reports") as reports:
        claimed = await start(store, reports, "reports")
        await asyncio.to_thread(servers[0].kill)
        try:
            await reports.finish(claimed)
            assert (await store.read(claimed.id, OWNER)).record.status is Status.COMPLETED
            assert (await store.read(await create(store, "reports"), OWNER)).record.status is Status.PENDING
            with pytest.raises(StoreUnavailable, match="Redis cannot be reached"):
                await store.ping()
        finally:
            await asyncio.to_thread(servers[0].start)


async def test_workers_are_listed_with_their_shard(store: TaskStore, settings: StoreSettings) -> None:
    async with shard(settings, "reports") as reports:
        health = '{"worker": "w1", "queue": "reports", "concurrency": 2, "running": 0, "tools": []}'
        await reports.redis.set(reports.keys.worker("w1"), health, px=5000)
        await reports.redis.sadd(reports.keys.workers, "w1")
        await reports.redis.pexpire(reports.keys.workers, 5000)
        (worker,) = await store.workers()
        assert (worker["shard"], worker["worker"]) == ("reports", "w1")
        queued = await store.read(await create(store, "reports"), OWNER)
        assert queued.is_served is True


async def test_a_shard_that_evicts_is_refused_at_the_start(settings: StoreSettings) -> None:
    async with Redis.from_url(settings.shards["reports"]) as redis:
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(RedisUnfit, match=r"Shard reports: This Redis cannot keep .*\n.*maxmemory-policy"):
                async with open_store(settings):
                    pass
        finally:
            await redis.config_set("maxmemory-policy", "noeviction")


async def test_a_shard_whose_address_is_none_is_named_at_the_start(settings: StoreSettings) -> None:
    with pytest.raises(SettingsError, match=r"Shard reports: .* not a Redis address"):
        async with open_store(settings.model_copy(update={"shards": {"reports": "b:6379"}})):
            pass


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    sentinels = "redis+sentinel://one:1,two:2/tasks/0"
    monkeypatch.setenv("TASKMILL_SHARDS", f"reports={sentinels}, big-ones=redis://:a%2Cb@three/1")
    monkeypatch.setenv("TASKMILL_QUEUE_SHARDS", "exports=reports,v1.import=big-ones")
    read = read_settings(StoreSettings, redis_url="redis://four/0")
    assert read.shards == {"reports": sentinels, "big-ones": "redis://:a%2Cb@three/1"}
    assert [read.shard_of(queue) for queue in ("exports", "v1.import", "default")] == ["reports", "big-ones", "home"]
    assert read.at_shard("reports").redis_url == sentinels
    assert read.at_shard("home").redis_url == "redis://four/0"
    assert "a%2Cb" not in repr(read)


@pytest.mark.parametrize(
    ("shards", "queues", "fault"),
    [
        ("home=redis://x", "", "home is the Redis of TASKMILL_REDIS_URL"),
        ("Reports=redis://x", "", "small letters"),
        ("redis://user:secret@x", "", "name=value"),
        ("a=redis://x,a=redis://y", "", "a is there twice"),
        ("a=redis://x,b=redis://x", "", "same address"),
        ("a=redis://home", "", "same address"),
        ("a=redis://x", "q=b", "puts queue q on shard b, which is none of home, a"),
        ("", "q=b", "puts queue q on shard b"),
    ],
)
def test_a_map_that_cannot_work_says_why_and_shows_no_password(shards: str, queues: str, fault: str) -> None:
    with pytest.raises(SettingsError, match=fault) as raised:
        read_settings(StoreSettings, redis_url="redis://home", shards=shards, queue_shards=queues)
    assert "secret" not in str(raised.value)


def test_marked_ids_keep_their_randomness_and_fit_every_key() -> None:
    fresh = new_task_id()
    assert id_on_shard(fresh, "home") == fresh
    assert id_on_shard(fresh, "reports") == f"{fresh}.reports"
    keys = Keys("a.b")
    assert keys.task_of(keys.record(f"{fresh}.reports")) == f"{fresh}.reports"
