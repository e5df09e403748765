"""The scripts as a whole: loaded whenever Redis has forgotten them, one table of keys and moves, all or nothing."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from anyio import fail_after, sleep
from redis.asyncio import Redis

from taskmill.engine.errors import OperatorError, StoreFull, StoreUnavailable
from taskmill.engine.record import Progress
from taskmill.engine.status import LEGAL_MOVES, Status
from taskmill.store.connection.client import connect_blocking, store_errors
from taskmill.store.formats.keys import Keys
from taskmill.store.scripts import Call, assembled, moves_table
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.creation import create_args
from tests.model.mutants import MUTANTS, Mutant, broken_scripts
from tests.support.invariants import broken_promises
from tests.support.redis_server import PrivateRedis
from tests.support.store_fixture import DONE, OWNER, StoreFixture, question


async def test_scripts_forgotten_by_redis_are_loaded_again_in_mid_life(stores: StoreFixture) -> None:
    """A restart, a failover or SCRIPT FLUSH."""
    claimed = await stores.start()
    await stores.redis.script_flush()
    assert (await stores.record(claimed.id)).status is Status.RUNNING

    await stores.redis.script_flush()
    assert await stores.report((claimed.id, 1, Progress(1))) == []

    await stores.redis.script_flush()
    assert await stores.finish(claimed) == "finished"


async def test_a_batch_keeps_its_order_on_a_redis_that_has_seen_some_of_its_scripts(stores: StoreFixture) -> None:
    """A new Redis, where a task without progress has ended before one with progress."""
    await stores.redis.script_flush()
    first, second = await stores.start(), await stores.start()
    assert await stores.run(stores.ann.finish_call(first.id, 1, DONE)) == [b"finished"]

    progress = stores.ann.progress_call([(second.id, 1, Progress(4.0, 4.0))])
    assert await stores.run(progress, stores.ann.finish_call(second.id, 1, DONE)) == [[], b"finished"]


async def test_a_batch_whose_scripts_were_forgotten_runs_once(stores: StoreFixture) -> None:
    claimed, waiting = await stores.start(), await stores.create()
    await stores.redis.script_flush()

    replies, claims = await stores.ann.run_batch(
        [stores.ann.finish_call(claimed.id, 1, DONE)], stores.ann.claim_call("default", 1)
    )

    assert replies == [b"finished"]
    assert claims is not None
    assert [task.id for task in claims.tasks] == [waiting]


async def test_a_batch_runs_also_where_scripts_are_forgotten_again_while_they_are_loaded(
    stores: StoreFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two failovers in a row: what was loaded between them is on a Redis that is no longer the primary."""
    claimed = await stores.start()
    await stores.redis.script_flush()
    monkeypatch.setattr(stores.redis, "script_load", lambda _text: stores.redis.script_flush())

    assert await stores.finish(claimed) == "finished"


async def test_a_batch_of_which_redis_knows_only_some_scripts_claims_no_more_than_it_reports(
    stores: StoreFixture,
) -> None:
    """A rolling deploy: the new release has a new text of one script. What the first try claimed must not get lost."""
    claimed, first, second = await stores.start(), await stores.create(), await stores.create()
    await stores.redis.script_flush()
    await stores.ann.scripts.run(stores.redis, *stores.ann.claim_call("nothing here", 1))

    replies, claims = await stores.ann.run_batch(
        [stores.ann.finish_call(claimed.id, 1, DONE)], stores.ann.claim_call("default", 1)
    )

    assert replies == [b"finished"]
    assert claims is not None
    assert [task.id for task in claims.tasks] == [first]
    assert (await stores.record(second)).status is Status.PENDING


async def test_a_blocking_caller_survives_forgotten_scripts_too(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.redis.script_flush()
    blocking = connect_blocking(stores.settings)

    lost = stores.ann.scripts.run_blocking(blocking, *stores.ann.renew_call([(claimed.id, 1), ("never-seen", 1)]))

    assert lost == [b"never-seen"]
    blocking.close()


async def test_one_call_that_fails_does_not_keep_the_others_of_its_batch_from_running(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.redis.set(stores.keys.record("damaged"), "no hash")

    with pytest.raises(OperatorError):
        await stores.run(
            stores.ann.finish_call("damaged", 1, DONE),
            stores.ann.finish_call(claimed.id, 1, DONE),
        )

    assert (await stores.record(claimed.id)).status is Status.COMPLETED
    await stores.redis.delete(stores.keys.record("damaged"))


async def test_scripts_and_python_build_the_same_keys(stores: StoreFixture) -> None:
    """A prefix may hold what Lua patterns or hash tags would trip over."""
    keys = Keys("a.b-c_d")
    names = ["record", "events", "args", "inputs", "result", "open", "queue", "wake", "worker", "signal", "job"]
    names.append("in_progress")
    text = keys.placed("return {K.live, " + ", ".join(f"K.{name}('x')" for name in names) + "}")

    built = await stores.redis.eval(text, 0)  # type: ignore[misc]

    assert [key.decode() for key in built] == [keys.live, *(getattr(keys, name)("x") for name in names)]


async def test_scripts_are_given_the_engines_table_of_moves(stores: StoreFixture) -> None:
    read = await stores.redis.eval(moves_table() + "return cjson.encode({FROM, TO})", 0)  # type: ignore[misc]

    sources, targets = json.loads(read)
    assert {move: set(states.split()) for move, states in sources.items()} == {
        move.value: {status.value for status in source} for move, (source, _) in LEGAL_MOVES.items() if source
    }
    assert targets == {move.value: target.value for move, (_, target) in LEGAL_MOVES.items() if target}


def test_a_script_carries_what_it_uses_of_the_shared_texts_and_nothing_else() -> None:
    """A script runs from its first line at every call: what is never used would be paid for each time."""
    shared = [
        "-- Said of all.\nlocal MOST = 3",
        "local function low()\n  return MOST\nend\n\nlocal function high()\n  low()\nend",
    ]

    assert "local MOST = 3" in assembled("return low() -- not high", shared, Keys("p"))
    assert "high" not in assembled("return low()", shared, Keys("p"))
    assert assembled("return 1", shared, Keys("p")) == "return 1"


def test_in_a_cluster_a_script_knows_that_followers_may_be_connected_elsewhere() -> None:
    used = "return IN_CLUSTER"

    assert assembled(used, [], Keys("p", in_cluster=True)).startswith("local IN_CLUSTER = true")
    assert assembled(used, [], Keys("p")).startswith("local IN_CLUSTER = false")


def test_an_unknown_key_is_refused_before_redis_sees_the_script() -> None:
    with pytest.raises(KeyError, match="recrod"):
        Keys("p").placed("return K.recrod(id)")


async def test_all_keys_of_a_deployment_share_one_hash_slot_but_arqs(stores: StoreFixture) -> None:
    """The braces are a hash tag, so that the scripts would also run where keys are spread by it."""
    claimed = await stores.start(idempotency="key")
    await stores.ann.ask(claimed.id, 1, [question(1)])

    stray = [key for key in (await stores.found()).values if not key.startswith(("{taskmill}:", "arq:"))]

    assert stray == []


@pytest.fixture
async def troubled() -> AsyncIterator[StoreFixture]:
    """A `StoreFixture` on a Redis of its own, which a test may bring into trouble."""
    with PrivateRedis() as server:
        async with Redis.from_url(server.url) as redis:
            yield StoreFixture(redis, StoreSettings(redis_url=server.url, lease=60))


async def one_call_of_each(stores: StoreFixture) -> list[Call]:
    """One call of every script that writes, each of which would change something."""
    keys, ann = stores.keys, stores.ann
    running, ending, leaving, asking, answered, waiting, unwanted, idle = [await stores.start() for _ in range(8)]
    await stores.release(idle)
    await ann.ask(answered.id, 1, [question(1)])
    await ann.ask(waiting.id, 1, [question(1)])
    fresh = stores.task(idempotency="another key")
    return [
        ("create", [keys.record(fresh.id)], create_args(fresh, stores.settings)),
        ann.claim_call("default", 5, batch_id="1"),
        ann.renew_call([(running.id, 1)]),
        ann.progress_call([(running.id, 1, Progress(1))]),
        ann.finish_call(ending.id, 1, DONE),
        ann.release_call(leaving.id, 1, delay=timedelta(0), failures=0, reason="drain"),
        ann.park_call(waiting.id, 1),
        ("ask", [keys.inputs(asking.id)], [asking.id, 1, "input-1", "digest", b"{}"]),
        ("answer", [keys.inputs(answered.id)], [answered.id, OWNER, "input-1", b"{}"]),
        ("cancel", [keys.record(unwanted.id)], [unwanted.id, OWNER, "why"]),
    ]


_ADDING = ("create", "progress", "ask", "answer")
"""Scripts that add to what Redis holds; the others have to work so that it empties again."""


async def test_a_full_redis_refuses_what_adds_to_it_as_a_whole_and_names_what_to_do(troubled: StoreFixture) -> None:
    for name, keys, args in await one_call_of_each(troubled):
        if name not in _ADDING:
            continue
        async with troubled.nothing_changes():
            await troubled.redis.config_set("maxmemory", 1)
            with pytest.raises(StoreFull, match="raise maxmemory"), store_errors():
                await troubled.ann.scripts.run(troubled.redis, name, keys, args)
            with pytest.raises(StoreFull, match="raise maxmemory"):
                await troubled.run((name, keys, args))
            with pytest.raises(StoreFull, match="raise maxmemory"), store_errors():
                await troubled.redis.set("outside", "a script")
            await troubled.redis.config_set("maxmemory", 0)

        await troubled.run((name, keys, args))

        assert broken_promises(await troubled.found()) == []


async def test_a_full_redis_takes_every_other_move(troubled: StoreFixture) -> None:
    """Room comes only as tasks end, and they cannot end if they are not claimed, renewed and settled."""
    calls = await one_call_of_each(troubled)
    await troubled.redis.config_set("maxmemory", 1)

    replies = [reply for call in calls if call[0] not in _ADDING for reply in await troubled.run(call)]

    await troubled.redis.config_set("maxmemory", 0)
    assert len(replies[0][2]) == 1
    assert replies[1:] == [[], b"finished", b"released", b"parked", b"cancelled"]
    assert broken_promises(await troubled.found()) == []


async def test_a_redis_that_became_a_replica_refuses_every_move_as_a_passing_trouble(troubled: StoreFixture) -> None:
    """A failover: the client still talks to the old primary, and the next connection may reach the new one."""
    calls = await one_call_of_each(troubled)
    await troubled.redis.replicaof("127.0.0.1", "1")

    async with troubled.nothing_changes():
        for name, keys, args in calls:
            with pytest.raises(StoreUnavailable), store_errors():
                await troubled.ann.scripts.run(troubled.redis, name, keys, args)
            with pytest.raises(StoreUnavailable):
                await troubled.run((name, keys, args))


async def test_a_redis_that_cannot_write_to_its_disk_is_reported_as_a_passing_trouble(troubled: StoreFixture) -> None:
    """It takes no writes until there is room again, and then goes on."""
    calls = await one_call_of_each(troubled)
    await let_snapshots_fail(troubled)

    async with troubled.nothing_changes():
        for name, keys, args in calls:
            with pytest.raises(StoreUnavailable, match="disk"), store_errors():
                await troubled.ann.scripts.run(troubled.redis, name, keys, args)
            with pytest.raises(StoreUnavailable, match="disk"):
                await troubled.run((name, keys, args))


async def let_snapshots_fail(stores: StoreFixture) -> None:
    redis = stores.redis
    directory = Path((await redis.config_get("dir"))["dir"])
    (directory / (await redis.config_get("dbfilename"))["dbfilename"]).mkdir()
    await redis.config_set("save", "3600 1000000")
    await redis.bgsave()
    with fail_after(30):
        while (await redis.info("persistence"))["rdb_last_bgsave_status"] != "err":
            await sleep(0.01)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_faults_put_in_on_purpose_still_fit_the_scripts(mutant: Mutant, tmp_path: Path) -> None:
    """`tests/model` then shows that each is seen; it is repeated here for those who change a script."""
    with broken_scripts(mutant, tmp_path):
        pass
