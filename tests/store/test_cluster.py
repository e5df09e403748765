"""A Redis cluster of three primaries, each with a replica: slots that move, failovers and crashes lose nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import chain
from typing import Any

import anyio.lowlevel
import pytest
from anyio import fail_after, sleep

from taskmill.engine.errors import RedisUnfit, StoreUnavailable
from taskmill.store.claims.heartbeat import Heartbeat
from taskmill.store.connection.client import connect, open_redis, store_errors
from taskmill.store.connection.cluster import cluster_target_of
from taskmill.store.formats.cluster_address import slot_of
from taskmill.store.formats.filters import TaskFilter
from taskmill.store.formats.keys import Keys
from taskmill.store.opening import open_store
from taskmill.store.pubsub.wakeup import QueueWakeup
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.invariants import broken_promises
from tests.support.redis_cluster import ClusterNodes, running_cluster
from tests.support.redis_server import free_port
from tests.support.store_fixture import DONE, StoreFixture

SLOT = slot_of("taskmill")


@pytest.fixture
async def sound(cluster: ClusterNodes) -> None:
    """These tests have Redis servers of their own, and look at them at their end."""


@pytest.fixture(scope="module")
def servers() -> Iterator[ClusterNodes]:
    with running_cluster() as nodes:
        yield nodes


@pytest.fixture
async def cluster(servers: ClusterNodes) -> AsyncIterator[ClusterNodes]:
    """The cluster, empty, and made whole again behind a test that broke it."""
    await servers.empty()
    yield servers
    await servers.restart_dead()


@asynccontextmanager
async def stores_on(cluster: ClusterNodes, **settings: Any) -> AsyncIterator[StoreFixture]:
    """A store and two workers on the cluster; what they leave is as the invariants say."""
    given = StoreSettings(**{"redis_url": cluster.url, "lease": 60, **settings})
    async with open_redis(given) as redis:
        stores = StoreFixture(redis, given)
        yield stores
        assert broken_promises(await stores.found()) == []


async def repeated(call: Callable[[], Awaitable[Any]]) -> Any:
    """What a call returns once the cluster serves it again, as workers and clients repeat it."""
    with fail_after(60):
        while True:
            try:
                return await call()
            except StoreUnavailable:
                await sleep(0.05)


async def run_whole(stores: StoreFixture, tasks: int) -> list[str]:
    """Create tasks, claim and finish each, one after the other, whatever happens to the cluster; their ids."""
    made = []
    for number in range(tasks):
        task = stores.task(arguments={"n": number})
        await repeated(lambda task=task: stores.store.create(task))
        claims = await repeated(lambda task=task: stores.claim(ids=[task.id], batch_id=task.id))
        (held,) = claims.tasks
        await repeated(lambda held=held: stores.finish(held, DONE))
        made.append(task.id)
    return made


async def test_a_cluster_is_served_whichever_of_its_nodes_the_address_names(cluster: ClusterNodes) -> None:
    owner = await cluster.owner(SLOT)
    away = next(server for server in cluster.servers if server is not owner)
    settings = StoreSettings(redis_url=f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{away.port}", lease=60)
    async with open_store(settings) as store, open_redis(settings) as redis:
        stores = StoreFixture(redis, settings)
        held = await stores.start()
        async with store.tails.follow(held.id) as events:
            assert await stores.finish(held) == "finished"
            assert [event.move.value async for event in events] == ["create", "claim", "complete"]
        assert (await store.stats(["default"])).ended
        assert broken_promises(await stores.found()) == []
    keys = await cluster.command(owner, "DBSIZE")
    assert keys == await cluster.command(owner, "CLUSTER", "COUNTKEYSINSLOT", SLOT) > 0


async def test_no_task_is_lost_or_run_twice_while_its_slot_moves(cluster: ClusterNodes) -> None:
    """keys of both open and ended tasks are moved one by one, in the midst of creations, claims and finishes."""
    async with stores_on(cluster, command_timeout=2) as stores:
        before = await run_whole(stores, 3)
        held = [await stores.start() for _ in range(3)]
        running = [asyncio.create_task(run_whole(stores, 15)) for _ in range(3)]
        target = await cluster.begin_move(SLOT)
        while await cluster.move_keys(SLOT, target, 5):
            await anyio.lowlevel.checkpoint()
        await cluster.end_move(SLOT, target)
        for task in held:
            assert await repeated(lambda task=task: stores.finish(task)) == "finished"
        made = [*before, *(task.id for task in held), *chain(*await asyncio.gather(*running))]
        assert await cluster.owner(SLOT) is target
        for task_id in made:
            assert await stores.moves(task_id) == ["create", "claim", "complete"]
        assert len((await stores.found()).ids()) == len(made)


async def test_no_script_begins_while_its_keys_are_on_two_nodes(cluster: ClusterNodes) -> None:
    async with stores_on(cluster, command_timeout=1.5) as stores:
        held = await stores.start()
        waiting = await stores.create()
        source = await cluster.owner(SLOT)
        target = await cluster.begin_move(SLOT)
        for name in (stores.keys.queue("default"), stores.keys.live):  # not the record, which scripts name as their key
            await cluster.command(source, "MIGRATE", "127.0.0.1", target.port, name, 0, 10_000)
        before = [await cluster.command(source, "DUMP", stores.keys.record(one)) for one in (held.id, waiting)]
        with pytest.raises(StoreUnavailable, match="does not serve the slot"):
            await stores.finish(held)
        with pytest.raises(StoreUnavailable, match="Nothing was lost"):
            await stores.store.cancel(waiting, stores.task().principal)
        assert before == [await cluster.command(source, "DUMP", stores.keys.record(one)) for one in (held.id, waiting)]
        await cluster.end_move(SLOT, target)
        assert await stores.finish(held) == "finished"
        assert await stores.finish(await stores.take(waiting)) == "finished"


async def test_a_failover_for_maintenance_is_followed_by_everything(cluster: ClusterNodes) -> None:
    """store, events, claims, the wake-up call and the lease thread, each over connections of its own."""
    async with stores_on(cluster) as stores, open_store(stores.settings) as store:
        heartbeat = Heartbeat(stores.settings, stores.ann, "ann")
        wakeup = QueueWakeup(stores.settings, stores.keys, "default")
        held = await stores.start()
        while await wakeup.wait(0.1):
            pass
        assert heartbeat.renew([(held.id, held.fence)], {}) == []
        async with store.tails.follow(held.id) as events:
            waiting = asyncio.create_task(wakeup.wait(50))
            await cluster.fail_over(SLOT)
            assert await asyncio.to_thread(heartbeat.renew, [(held.id, held.fence)], {}) == []
            task_id = await stores.create()
            if not await _outcome(waiting):
                assert await wakeup.wait(50)
            task = await stores.take(task_id)
            assert (await stores.finish(held), await stores.finish(task)) == ("finished", "finished")
            assert [event.move.value async for event in events] == ["create", "claim", "complete"]
        heartbeat.leave()
        await wakeup.close()


async def _outcome(waiting: "asyncio.Task[bool]") -> bool:
    """Whether a token came; also False where the failover ended the wait."""
    try:
        return await waiting
    except StoreUnavailable:
        return False


async def test_the_replica_of_a_killed_primary_goes_on_with_higher_fences(cluster: ClusterNodes) -> None:
    async with stores_on(cluster, command_timeout=2) as stores:
        held = await stores.start()
        await stores.release(held)
        held = await stores.take(held.id)
        waiting = await stores.create()
        await cluster.command(await cluster.owner(SLOT), "WAIT", 1, 10_000)
        dead = await cluster.owner(SLOT)
        dead.kill()
        with pytest.raises(StoreUnavailable):
            await stores.finish(held)
        assert await repeated(lambda: stores.finish(held)) == "finished"
        task = await stores.take(waiting)
        assert task.fence > 1_000_000_000_000
        assert await stores.finish(task) == "finished"
        await cluster.restart_dead()
        assert await stores.finish(await stores.start()) == "finished"  # the one that came back is a replica


@pytest.mark.slow
@pytest.mark.timeout(240)  # four elections, which take their time on a busy machine
async def test_a_storm_of_faults_loses_no_task_and_runs_none_twice(cluster: ClusterNodes) -> None:
    """the short form of `scripts/chaos --cluster`: handed over, moved, killed and moved again, while tasks run."""
    async with stores_on(cluster, command_timeout=2) as stores:
        is_over = asyncio.Event()

        async def run_on() -> list[str]:
            made = []
            while not is_over.is_set():
                made += await run_whole(stores, 1)
                await sleep(0.01)
            return made

        running = [asyncio.create_task(run_on()) for _ in range(4)]
        for fault in (cluster.fail_over, cluster.move, cluster.kill_primary, cluster.move):
            await fault(SLOT)
            await cluster.restart_dead()
        is_over.set()
        made = list(chain(*await asyncio.gather(*running)))
        assert len(made) > 4
        for task_id in made:
            assert await stores.moves(task_id) == ["create", "claim", "complete"]


async def test_by_the_address_of_a_single_node_a_command_is_refused_with_the_address_to_write(
    cluster: ClusterNodes,
) -> None:
    """as doctor would send it; servers and workers refuse the node before they send any."""
    owner = await cluster.owner(SLOT)
    away = next(server for server in cluster.servers if server is not owner)
    client = connect(StoreSettings(redis_url=f"redis://127.0.0.1:{away.port}"))
    with pytest.raises(RedisUnfit, match=r"write redis\+cluster://host:port"), store_errors():
        await client.get(Keys().layout)
    await client.aclose()


async def test_what_is_known_of_the_slot_is_told_to_a_person(cluster: ClusterNodes) -> None:
    target = cluster_target_of(cluster.url, "taskmill")
    assert target is not None
    (finding,) = await target.findings()
    port = (await cluster.owner(SLOT)).port
    assert finding.level == "ok"
    assert finding.detail == f"slot {SLOT}, on 127.0.0.1:{port}, one of 3 primaries, with 1 replica"


def parts_of(cluster: ClusterNodes, *names: str) -> StoreSettings:
    """The settings of a deployment whose default shard and shards of these names are parts of one cluster."""
    urls = [f"{cluster.url}?part={number}of{len(names) + 1}" for number in range(1, len(names) + 2)]
    return StoreSettings(redis_url=urls[0], shards=dict(zip(names, urls[1:], strict=True)), lease=60)


async def test_parts_of_a_cluster_are_shards_on_different_primaries(cluster: ClusterNodes) -> None:
    settings = parts_of(cluster, "reports", "exports")
    owners = set()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(settings))
        for queue in ("default", "reports", "exports"):
            there = settings.at_shard(settings.shard_of(queue))
            worker = StoreFixture(await stack.enter_async_context(open_redis(there)), there)
            task = worker.task(id=store.new_id(queue), queue=queue, idempotency=f"once-{queue}", idempotency_of="same")
            assert (await store.create(task)).record.id == task.id
            _, claims = await worker.ann.run_batch([], worker.ann.claim_call(queue, 1))
            assert claims is not None
            async with store.tails.follow(task.id) as events:
                assert await worker.finish(claims.tasks[0]) == "finished"
                assert [event.move.value async for event in events] == ["create", "claim", "complete"]
            again = replace(task, id=store.new_id("default"), queue="default")
            assert (await store.create(again)).record.id == task.id  # its key holds over all shards
            target = cluster_target_of(there.redis_url or "", there.prefix)
            assert target is not None
            owners.add((await cluster.owner(target.slot)).port)
            assert broken_promises(await worker.found()) == []
        assert len(owners) == 3
        assert await store.count(TaskFilter()) == 3
        assert (await store.slice(OPERATOR, ("", ""), limit=9, where=TaskFilter())).unreachable == ()


async def test_a_part_whose_primary_is_dead_stops_no_other_part(cluster: ClusterNodes) -> None:
    settings = parts_of(cluster, "reports", "exports")
    async with open_store(settings) as store, open_redis(settings.at_shard("home")) as redis:
        home = StoreFixture(redis, settings.at_shard("home"))
        target = cluster_target_of(settings.shards["reports"], "taskmill")
        assert target is not None
        (await cluster.owner(target.slot)).kill()
        there = home.task(id=store.new_id("reports"), queue="reports")
        with pytest.raises(StoreUnavailable, match="Shard reports: "):
            await store.create(there)
        assert (await store.create(home.task(id=store.new_id("default")))).record.id
        await repeated(lambda: store.create(there))
        assert (await store.read(there.id, there.principal)).record.queue == "reports"
