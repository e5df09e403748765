"""Lists of tasks: each owner's own, in pages that neither skip nor repeat, and forgotten with the tasks."""

from dataclasses import replace
from datetime import timedelta

import pytest

from taskmill.engine.errors import BadCursor
from taskmill.engine.events import AttemptError
from taskmill.engine.outcome import Failed, Fault, Outcome, OutcomeKind, Refused, Returned
from taskmill.engine.record import Progress, TaskView
from taskmill.engine.status import Status
from taskmill.store.formats.filters import TaskFilter
from taskmill.store.formats.paging import LONGEST_PAGE
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.store_fixture import DONE, OWNER, STRANGER, StoreFixture, question

LISTED = "session:17"


async def ids(stores: StoreFixture, list_owner: str, *, limit: int = 2, **wanted: object) -> list[str]:
    """A whole list, page by page."""
    found: list[str] = []
    after: str | None = None
    while True:
        page = await stores.store.page(list_owner, after=after, limit=limit, where=TaskFilter(**wanted))  # type: ignore[arg-type]
        assert len(page.views) <= limit
        found += [view.record.id for view in page.views]
        after = page.next
        if after is None:
            return found


async def test_a_list_has_its_owners_tasks_newest_first_and_an_operators_holds_all(stores: StoreFixture) -> None:
    mine = [await stores.create(listed_for=OWNER) for _ in range(5)]
    theirs = await stores.create(principal=STRANGER, listed_for=STRANGER)
    nobodys = await stores.create(principal="anonymous")
    sessions = await stores.create(principal="anonymous", listed_for=LISTED)

    assert await ids(stores, OWNER) == mine[::-1]
    assert await ids(stores, STRANGER) == [theirs]
    assert await ids(stores, LISTED) == [sessions]
    assert await ids(stores, "anonymous") == []
    assert await ids(stores, OPERATOR) == [sessions, nobodys, theirs, *mine[::-1]]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
async def test_the_last_page_is_known_to_be_the_last(stores: StoreFixture, count: int) -> None:
    for _ in range(count):
        await stores.create(listed_for=OWNER)

    page = await stores.store.page(OWNER, limit=2)

    assert (len(page.views), page.next is None) == (min(count, 2), count <= 2)


async def test_a_page_shows_what_a_read_shows_but_for_long_or_good_outcomes_and_questions(stores: StoreFixture) -> None:
    pending = [await stores.create(listed_for=OWNER) for _ in range(2)]
    asking = await stores.start(listed_for=OWNER)
    await stores.ann.ask(asking.id, asking.fence, [question(1)])
    outcomes = [
        Refused(-1, "no such file"),
        Failed(Fault.TIMEOUT, "too slow", "ref"),
        Returned({}, is_error=True),
        DONE,
    ]
    ended = [await stores.start(listed_for=OWNER) for _ in range(4)]
    for task, outcome in zip(ended, outcomes, strict=True):
        await stores.finish(task, outcome)
    big = stores.with_settings(max_result=100_000)
    boring = await big.start(listed_for=OWNER)
    await big.finish(boring, Refused(-1, "x" * 20_000))

    listed = {view.record.id: view for view in (await stores.store.page(OWNER)).views}

    # How long a task will wait takes a reading of the queue, which a page does not make for each.
    looked = {task_id: replace(await stores.read(task_id), wait_ms=None, is_served=True) for task_id in listed}
    assert len(listed) == 8
    shown = [*pending, ended[0].id, ended[1].id]
    assert [listed[task_id] for task_id in shown] == [looked[task_id] for task_id in shown]
    records = [asking.id, ended[2].id, ended[3].id, boring.id]
    assert [listed[task_id] for task_id in records] == [TaskView(looked[task_id].record) for task_id in records]


async def test_a_page_costs_one_round_trip(stores: StoreFixture) -> None:
    for _ in range(20):
        await stores.create(listed_for=OWNER)
    await stores.store.page(OWNER)  # Redis and the store know script and secret from here on
    await stores.redis.config_resetstat()

    assert len((await stores.store.page(OWNER, limit=20)).views) == 20

    stats = await stores.redis.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 1
    assert "cmdstat_get" not in stats


async def test_paging_goes_on_where_it_was_whatever_comes_and_goes_meanwhile(stores: StoreFixture) -> None:
    tasks = [await stores.create(listed_for=OWNER) for _ in range(6)]
    first = await stores.store.page(OWNER, limit=2)

    await stores.create(listed_for=OWNER)  # newer than the first page
    await expire(stores, tasks[4])  # the entry that the cursor stands on
    await expire(stores, tasks[3])  # the entry behind it
    second = await stores.store.page(OWNER, after=first.next, limit=2)

    assert [view.record.id for view in first.views] == [tasks[5], tasks[4]]
    assert [view.record.id for view in second.views] == [tasks[2], tasks[1]]
    assert [view.record.id for view in (await stores.store.page(OWNER, after=second.next)).views] == [tasks[0]]


async def test_tasks_of_one_moment_are_neither_skipped_nor_repeated(stores: StoreFixture) -> None:
    """A clock that stands still, or was set back."""
    tasks = [await stores.create(listed_for=OWNER) for _ in range(7)]
    await stores.redis.zadd(stores.keys.list(OWNER), dict.fromkeys(tasks, 17.25))

    for limit in (1, 2, 3, 7):
        assert await ids(stores, OWNER, limit=limit) == sorted(tasks, reverse=True)


async def expire(stores: StoreFixture, task_id: str) -> None:
    """Cancel a task and let its retention have passed."""
    await stores.store.cancel(task_id, OPERATOR)
    keys = stores.keys
    await stores.redis.delete(*(key(task_id) for key in (keys.record, keys.events, keys.args)))
    for entry in await stores.redis.zrange(keys.fading, 0, -1):
        if entry.decode().split(" ")[0] == task_id:
            await stores.redis.zadd(keys.fading, {entry: 1})


async def test_lists_forget_a_task_once_its_retention_has_passed(stores: StoreFixture) -> None:
    """No process sweeps: each creation forgets a few, which is more than it adds."""
    for _ in range(12):
        await expire(stores, await stores.create(listed_for=OWNER))
    left = [len((await stores.found()).members(stores.keys.fading))]
    for _ in range(3):
        await stores.create(principal=STRANGER)
        left.append(len((await stores.found()).members(stores.keys.fading)))

    assert left == [1, 0, 0, 0]
    assert await stores.redis.exists(stores.keys.list(OWNER)) == 0
    assert await stores.redis.zcard(stores.keys.all) == 3


async def test_a_creation_forgets_a_bounded_number(stores: StoreFixture) -> None:
    tasks = [await stores.create(listed_for=OWNER) for _ in range(12)]
    for task_id in tasks:
        await expire(stores, task_id)

    left = []
    for _ in range(4):
        await stores.create(principal=STRANGER)
        left.append(len((await stores.found()).members(stores.keys.fading)))

    assert left == [8, 4, 0, 0]


async def test_a_task_is_on_the_lists_for_as_long_as_it_can_be_read(stores: StoreFixture) -> None:
    task_id = await stores.create(listed_for=OWNER, retention=timedelta(seconds=2))
    await stores.store.cancel(task_id, OWNER)
    ended = await stores.now_ms()

    assert await ids(stores, OWNER) == [task_id]
    await stores.wait_until_ms(ended + 2002)

    assert await ids(stores, OWNER) == []
    assert await stores.redis.exists(stores.keys.list(OWNER)) == 0  # taken off by who reads it
    await stores.create()
    assert task_id.encode() not in await stores.redis.zrange(stores.keys.all, 0, -1)


async def test_a_list_can_be_narrowed_to_states_and_to_a_tool(stores: StoreFixture) -> None:
    pending = [await stores.create(listed_for=OWNER, tool=tool) for tool in ("count", "dig", "count")]
    running = await stores.start(listed_for=OWNER, tool="dig")
    failed = await stores.start(listed_for=OWNER)
    await stores.finish(failed, Refused(-1, "no"))

    assert await ids(stores, OWNER, statuses=[Status.PENDING]) == pending[::-1]
    assert await ids(stores, OWNER, statuses=[Status.RUNNING, Status.FAILED]) == [failed.id, running.id]
    assert await ids(stores, OWNER, tool="dig") == [running.id, pending[1]]
    assert await ids(stores, OWNER, tool="dig", statuses=[Status.PENDING]) == [pending[1]]
    assert await ids(stores, OWNER, tool="di") == []


async def test_a_list_can_be_narrowed_to_how_tasks_ended_which_their_records_say_too(stores: StoreFixture) -> None:
    """a tool that crashed has a result, as one that succeeded has."""
    ends: list[tuple[OutcomeKind, Outcome, str | None]] = [
        (OutcomeKind.SUCCEEDED, Returned({}), None),
        (OutcomeKind.TOOL_ERROR, Returned({}, is_error=True), None),
        (OutcomeKind.CRASHED, Returned({}, is_error=True), "crashed"),
        (OutcomeKind.FAILED, Failed(Fault.TIMEOUT, "slow"), None),
    ]
    ended = {}
    for kind, outcome, reason in ends:
        claimed = await stores.start(listed_for=OWNER)
        await stores.run(stores.ann.finish_call(claimed.id, claimed.fence, outcome, reason=reason))
        ended[kind] = claimed.id
    ended[OutcomeKind.CANCELLED] = await stores.create(listed_for=OWNER)
    await stores.store.cancel(ended[OutcomeKind.CANCELLED], OWNER)
    open_task = await stores.create(listed_for=OWNER)

    for kind, task_id in ended.items():
        assert await ids(stores, OWNER, outcomes=[kind]) == [task_id]
        assert (await stores.store.read(task_id, OWNER)).record.outcome_kind is kind
    bad = [OutcomeKind.TOOL_ERROR, OutcomeKind.CRASHED]
    assert await ids(stores, OWNER, outcomes=bad) == [ended[kind] for kind in reversed(bad)]
    assert await ids(stores, OWNER, outcomes=bad, statuses=[Status.FAILED]) == []
    assert await ids(stores, OWNER, outcomes=[OutcomeKind.CRASHED], limit=1) == [ended[OutcomeKind.CRASHED]]
    assert (await stores.store.read(open_task, OWNER)).record.outcome_kind is None
    counted = (await stores.store.stats(["default"])).ended
    assert counted == {(kind.value, "default"): 1 for kind in OutcomeKind}


async def test_a_list_can_be_narrowed_to_a_queue_a_caller_a_client_and_a_time(stores: StoreFixture) -> None:
    tasks = [
        await stores.create(listed_for=OWNER, queue="shop/slow"),
        await stores.create(listed_for=OWNER, client_name=" \ud83d" + "é" * 40),
        await stores.create(principal=STRANGER, listed_for=STRANGER, client_name="claude-code"),
    ]
    created = [(await stores.record(task_id)).created_ms for task_id in tasks]

    assert await ids(stores, OPERATOR, queue="slow") == await ids(stores, OPERATOR, queue="shop/slow") == [tasks[0]]
    assert await ids(stores, OPERATOR, caller=STRANGER) == [tasks[2]]
    assert await ids(stores, OPERATOR, client="claude-code") == [tasks[2]]
    assert await ids(stores, OPERATOR, client="\ud83d" + "é" * 40) == [tasks[1]]
    assert [(await stores.record(task_id)).client for task_id in tasks] == [None, "?" + "é" * 31, "claude-code"]
    assert await ids(stores, OPERATOR, queue="low", caller=STRANGER) == []
    later = [one for one, ms in zip(tasks, created, strict=True) if ms > created[0]]
    assert await ids(stores, OPERATOR, since_ms=created[0] + 1) == later[::-1]
    assert await ids(stores, OPERATOR, until_ms=created[0]) == []
    assert await ids(stores, OPERATOR, since_ms=created[0], until_ms=created[2] + 1) == tasks[::-1]


@pytest.mark.parametrize("sealed", [False, True])
async def test_a_text_is_found_in_messages_and_errors_however_they_are_stored(
    stores: StoreFixture, sealed: bool
) -> None:
    """and not in what succeeded, nor in names of fields."""
    stores = stores.with_settings(seal_keys=(b"k" * 32,) if sealed else ())
    reported = await stores.start(listed_for=OWNER)
    await stores.report((reported.id, reported.fence, Progress(1, 2, "Reading Zürich")))
    refused, crashed, succeeded = [await stores.start(listed_for=OWNER) for _ in range(3)]
    await stores.finish(refused, Refused(-1, "no zürich here"))
    error = AttemptError("KeyError", "'zürich'", "Traceback: read_city")
    await stores.run(stores.ann.error_call(crashed.id, crashed.fence, 1, error))
    await stores.finish(crashed, Returned({"content": []}, is_error=True))
    await stores.finish(succeeded, Returned({"content": [{"type": "text", "text": "zürich"}]}))
    await stores.create(listed_for=OWNER)

    assert await ids(stores, OWNER, text="ZÜRICH") == [crashed.id, refused.id, reported.id]
    assert await ids(stores, OWNER, text="zürich", statuses=[Status.FAILED]) == [refused.id]
    assert await ids(stores, OWNER, text="keyerror", limit=1) == [crashed.id]
    assert await ids(stores, OWNER, text="READ_city") == [crashed.id]
    assert await ids(stores, OWNER, text="message") == []


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        ("It reads THE shelf", "the SHELF"),
        ('a "quoted" \\ word', '"quoted" \\'),
        ("é and plain", "é AND"),
        ("ends here\nand goes on", "here\nand"),
        *((f"<{letter}>", letter.casefold()) for letter in "ßİŉſǰẖẗẘẙẚẞ\u212aﬀﬁﬂﬃﬄﬅﬆ"),
    ],
)
async def test_redis_leaves_out_no_text_that_would_be_found(stores: StoreFixture, stored: str, text: str) -> None:
    """It compares bytes of ASCII, and stored JSON: letters whose small form is one of ASCII are left to Python."""
    texts = "".join(filter(str.isascii, text)) or text
    task, other = await stores.start(listed_for=OWNER), await stores.start(listed_for=OWNER)
    await stores.finish(task, Refused(-1, stored))
    await stores.report((other.id, other.fence, Progress(1, 2, stored)))
    await stores.create(listed_for=OWNER)
    for wanted in {text, texts}:
        assert await ids(stores, OWNER, text=wanted) == [other.id, task.id], wanted


async def test_errors_of_attempts_are_found_by_class_and_text_also_if_a_later_attempt_succeeded(
    stores: StoreFixture,
) -> None:
    task, other = await stores.start(listed_for=OWNER), await stores.start(listed_for=OWNER)
    await stores.run(stores.ann.error_call(task.id, task.fence, 1, AttemptError("OSError", "disk full")))
    await stores.release(task, failures=1, reason="retry")
    await stores.finish(await stores.take(task.id))
    await stores.finish(other)
    for text in ("oserror: disk", "DISK"):
        assert await ids(stores, OWNER, text=text) == [task.id]
    assert await ids(stores, OWNER, text="nothing has this") == []


async def test_a_page_is_filled_from_several_parts_of_a_list_when_it_may_read_them(stores: StoreFixture) -> None:
    wanted = [await stores.create(listed_for=OWNER, tool="dig") for _ in range(3)]
    async with stores.redis.pipeline() as pipe:
        for number in range(2500):
            pipe.hset(stores.keys.record(f"filler-{number}"), mapping={"tool": "count", "status": "pending"})
            pipe.zadd(stores.keys.list(OWNER), {f"filler-{number}": 1e15 + number})
        await pipe.execute()

    page = await stores.store.page(OWNER, where=TaskFilter(tool="dig"), limit=2, reads=10)

    assert [view.record.id for view in page.views] == [wanted[2], wanted[1]]
    rest = await stores.store.page(OWNER, where=TaskFilter(tool="dig"), after=page.next)
    assert [view.record.id for view in rest.views] == [wanted[0]]
    await stores.redis.flushall()


async def test_a_page_reads_a_bounded_part_of_a_long_list_and_the_next_goes_on_from_there(
    stores: StoreFixture,
) -> None:
    """Redis does nothing else while a script runs."""
    wanted = await stores.create(listed_for=OWNER, tool="dig")
    async with stores.redis.pipeline() as pipe:
        for number in range(1500):
            pipe.hset(stores.keys.record(f"filler-{number}"), mapping={"tool": "count", "status": "pending"})
            pipe.zadd(stores.keys.list(OWNER), {f"filler-{number}": 1e15 + number})
        await pipe.execute()

    first = await stores.store.page(OWNER, where=TaskFilter(tool="dig"))
    assert first.views == ()
    assert first.next is not None
    second = await stores.store.page(OWNER, where=TaskFilter(tool="dig"), after=first.next)

    assert ([view.record.id for view in second.views], second.next) == ([wanted], None)
    await stores.redis.flushall()


async def test_a_page_has_a_size_that_redis_can_bear(stores: StoreFixture) -> None:
    for _ in range(LONGEST_PAGE + 1):
        await stores.create(listed_for=OWNER)

    assert len((await stores.store.page(OWNER, limit=10**6)).views) == LONGEST_PAGE
    assert len((await stores.store.page(OWNER, limit=-1)).views) == 1


async def test_replicas_go_on_from_each_others_cursors(stores: StoreFixture) -> None:
    tasks = [await stores.create(listed_for=OWNER) for _ in range(3)]
    first = await stores.store.page(OWNER, limit=1)

    again = await stores.with_settings().store.page(OWNER, after=first.next)

    assert [view.record.id for view in again.views] == [tasks[1], tasks[0]]


async def test_a_cursor_of_another_owner_or_made_up_is_refused(stores: StoreFixture) -> None:
    for _ in range(2):
        await stores.create(listed_for=OWNER)
        await stores.create(principal=STRANGER, listed_for=STRANGER)
    mine = (await stores.store.page(OWNER, limit=1)).next
    operators = (await stores.store.page(OPERATOR, limit=1)).next
    assert mine
    assert operators

    forged = [
        "",
        "x",
        "17",
        "é",
        "=" * 8,
        "A" * 80,
        mine[:-2],
        mine + "AAAA",
        ("B" if mine[0] == "A" else "A") + mine[1:],
        mine * 40,
        "\ud800",
    ]
    for cursor, who in [
        (mine, STRANGER),
        (mine, OPERATOR),
        (operators, OWNER),
        *((one, OWNER) for one in forged),
    ]:
        with pytest.raises(BadCursor, match="Start again without one"):
            await stores.store.page(who, after=cursor)
