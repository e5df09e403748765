"""Payloads at rest: sealed when keys are configured, for one task and one field, under a ring that rotates."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmill.engine.errors import BadCursor, DecryptionFailed, PayloadTooLarge
from taskmill.engine.events import AttemptError
from taskmill.engine.outcome import Failed, Fault, Refused, Returned
from taskmill.engine.record import Progress
from taskmill.engine.status import Move, Status
from taskmill.store.claims.claims import Question
from taskmill.store.formats.sealing import Sealer
from taskmill.store.formats.views import CHANGED
from taskmill.store.sessions.sessions import Session
from tests.support.store_fixture import DONE, OWNER, STRANGER, StoreFixture

OLD, NEW, OTHER = b"o" * 32, b"n" * 32, b"x" * 32
SECRET = "hush-hush"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def sealed(stores: StoreFixture) -> StoreFixture:
    """Processes that seal with NEW."""
    return stores.with_settings(seal_keys=(NEW,))


def plain_bytes(value: Any) -> Iterator[bytes]:
    """Every name and value inside what was read from Redis."""
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        for pair in value.items():
            yield from plain_bytes(pair)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from plain_bytes(part)


async def leaks(stores: StoreFixture) -> list[str]:
    """The keys in which the secret can be read."""
    values = (await stores.found()).values
    return [key for key, value in values.items() if any(SECRET.encode() in part for part in plain_bytes(value))]


async def one_life(stores: StoreFixture) -> Iterator[str]:
    """Every payload a task can have, looked for after each move; yields where the secret was found."""
    claimed = await stores.start(arguments={"password": SECRET})
    for_args = await leaks(stores)
    await stores.ann.ask(claimed.id, 1, [Question(f"input-{n}", "digest", {"message": SECRET}) for n in (1, 2)])
    for_questions = await leaks(stores)
    await stores.store.answer(claimed.id, OWNER, {"input-1": {"name": SECRET}})
    for_answers = await leaks(stores)
    await stores.finish(claimed, Returned({"text": SECRET}))
    error = AttemptError("ValueError", SECRET, f"Traceback: {SECRET}")
    crashed = await stores.start()
    await stores.run(stores.ann.error_call(crashed.id, 1, 1, error))
    await stores.release(crashed, delay=60, failures=1, reason="crashed")
    refused, broke = await stores.start(), await stores.start()
    await stores.finish(refused, Refused(-1, SECRET, SECRET))
    await stores.finish(broke, Failed(Fault.TIMEOUT, SECRET))
    return iter([*for_args, *for_questions, *for_answers, *await leaks(stores)])


async def test_with_a_key_no_argument_question_answer_result_or_error_can_be_read(
    sealed: StoreFixture,
) -> None:
    assert list(await one_life(sealed)) == []


async def test_without_a_key_they_can(stores: StoreFixture) -> None:
    """Holds the test above: the search finds what is there."""
    assert len(list(await one_life(stores))) >= 6


async def test_what_was_sealed_is_read_back_by_every_process_with_the_key(
    sealed: StoreFixture, stores: StoreFixture
) -> None:
    other = stores.with_settings(seal_keys=(NEW,))
    claimed = await sealed.start(arguments={"password": SECRET})
    assert other.bob.arguments(claimed) == {"password": SECRET}

    await sealed.ann.ask(claimed.id, 1, [Question("input-1", "digest", {"message": SECRET})])
    assert (await other.read(claimed.id)).questions == {"input-1": {"message": SECRET}}

    await other.store.answer(claimed.id, OWNER, {"input-1": {"name": SECRET}})
    assert await sealed.ann.answers(claimed.id, ["input-1"]) == [{"name": SECRET}]

    await sealed.finish(claimed, DONE)
    assert (await other.read(claimed.id)).outcome == DONE


@pytest.mark.parametrize("keys", [(), (OTHER,)], ids=["no key", "another key"])
async def test_a_process_without_the_key_reports_it_and_still_knows_the_task(
    stores: StoreFixture, sealed: StoreFixture, keys: tuple[bytes, ...]
) -> None:
    blind = stores.with_settings(seal_keys=keys)
    claimed, asking, finished = [await sealed.start() for _ in range(3)]
    await sealed.ann.ask(asking.id, 1, [Question("input-1", "digest", {})])
    await sealed.finish(finished)

    with pytest.raises(DecryptionFailed, match="TASKMILL_SEAL_KEYS"):
        blind.ann.arguments(claimed)
    with pytest.raises(DecryptionFailed, match="TASKMILL_SEAL_KEYS"):
        await blind.read(asking.id)
    view = await blind.read(finished.id)
    stored = await sealed.record(finished.id)
    assert view.record == replace(stored, status=Status.FAILED, reason="unreadable")
    assert view.outcome == Failed(Fault.UNREADABLE, "The stored result cannot be opened with this server's keys.")


async def test_a_rotated_ring_opens_what_the_old_key_sealed_and_seals_with_the_new_one(stores: StoreFixture) -> None:
    before = stores.with_settings(seal_keys=(OLD,))
    rotated = stores.with_settings(seal_keys=(NEW, OLD))
    after = stores.with_settings(seal_keys=(NEW,))
    early, late = await before.start(arguments={"n": 1}), await rotated.start(arguments={"n": 2})

    assert rotated.ann.arguments(early) == {"n": 1}
    assert after.ann.arguments(late) == {"n": 2}
    with pytest.raises(DecryptionFailed):
        after.ann.arguments(early)


async def test_a_cursor_goes_on_while_the_keys_are_exchanged(stores: StoreFixture) -> None:
    """Replicas of a rolling deploy have the same keys in another order."""
    old, new = (stores.with_settings(seal_keys=ring) for ring in ((OLD, NEW), (NEW, OLD)))
    for _ in range(2):
        await old.create(listed_for=OWNER)
    for first, second in ((old, new), (new, old)):
        page = await first.store.page(OWNER, limit=1)
        assert len((await second.store.page(OWNER, limit=1, after=page.next)).views) == 1
    foreign = stores.with_settings(seal_keys=(b"x" * 32,))
    with pytest.raises(BadCursor):
        await foreign.store.page(OWNER, after=(await old.store.page(OWNER, limit=1)).next)


async def test_what_was_stored_before_there_was_a_key_is_read_in_a_transition_only(
    stores: StoreFixture, sealed: StoreFixture
) -> None:
    def until(moment: bool | str) -> StoreFixture:
        return stores.with_settings(seal_keys=(NEW,), seal_accept_unsealed=moment)

    claimed, ended = await stores.start(arguments={"n": 1}), await stores.start()
    await stores.report((claimed.id, 1, Progress(1, 2, "half")))
    await stores.finish(ended)
    for during in (until(True), until("2999-01-31")):
        assert during.ann.arguments(claimed) == {"n": 1}
        assert (await during.read(ended.id)).outcome == DONE
        assert (await during.record(claimed.id)).progress.message == "half"
    for after in (sealed, until("2026-01-31"), until(False)):
        with pytest.raises(DecryptionFailed, match="not sealed"):
            after.ann.arguments(claimed)
        assert (await after.read(ended.id)).record.status is Status.FAILED


async def test_a_record_given_to_another_owner_shows_nothing(sealed: StoreFixture) -> None:
    """Who can write to Redis and has an account would else read other callers' tasks with the server's keys."""
    theirs, running = await sealed.start(listed_for=OWNER), await sealed.start(listed_for=OWNER)
    await sealed.report((running.id, 1, Progress(1, 2, SECRET)))
    await sealed.finish(theirs, Returned({"text": SECRET}))
    for claimed in (theirs, running):
        await sealed.redis.hset(sealed.keys.record(claimed.id), "principal", STRANGER)
        await sealed.redis.zadd(sealed.keys.list(STRANGER), {claimed.id: 1})

    view = await sealed.store.read(theirs.id, STRANGER)
    assert (view.record.status, view.outcome, view.record.progress) == (Status.FAILED, CHANGED, Progress())
    with pytest.raises(DecryptionFailed):
        await sealed.store.read(running.id, STRANGER)
    assert (await sealed.store.page(STRANGER)).views == ()
    await sealed.redis.flushall()


async def test_a_task_given_another_tool_does_not_run(sealed: StoreFixture) -> None:
    task_id = await sealed.create()
    await sealed.redis.hset(sealed.keys.record(task_id), "tool", "delete_all")

    with pytest.raises(DecryptionFailed):
        sealed.ann.arguments(await sealed.take(task_id))
    await sealed.redis.flushall()


FIELDS = ("args:ann:count", "args:bob:count", "args:ann:dig", "question:input-1", "question:input-2", "answer:input-1")
FIELDS += ("result", "output", "progress", "step:a1", "step:a2", "state", "error:1", "error:2", "reply", "push")
FIELDS += ("outbox:1", "outbox:2", "session:ann:2025-11-25", "artifact:t:ann", "state:cart", "block:0", "block:1")


def test_a_payload_of_one_field_or_record_opens_as_no_other() -> None:
    """Every pair: moved, it is refused."""
    sealer = Sealer((NEW,))
    places = [(record, field) for record in ("t", "t:output", "u") for field in FIELDS]
    stored = {place: sealer.seal(SECRET, task_id=place[0], field=place[1]) for place in places}
    texts = {place: sealer.seal_text(SECRET, task_id=place[0], field=place[1]) for place in places}

    for made in places:
        for read in places:
            if made == read:
                assert sealer.open(stored[made], task_id=read[0], field=read[1]) == SECRET
                assert sealer.open_text(texts[made], task_id=read[0], field=read[1]) == SECRET
                continue
            with pytest.raises(DecryptionFailed):
                sealer.open(stored[made], task_id=read[0], field=read[1])
            with pytest.raises(DecryptionFailed):
                sealer.open_text(texts[made], task_id=read[0], field=read[1])


async def test_a_report_that_changes_nothing_makes_no_event_although_it_is_sealed(sealed: StoreFixture) -> None:
    claimed = await sealed.start()
    await sealed.report((claimed.id, 1, Progress(1, 2, "half")))
    await sealed.report((claimed.id, 1, Progress(1, 2, "half")))

    events = [event for event in await sealed.store.history(claimed.id) if event.move is Move.PROGRESS]
    assert [event.facts["message"] for event in events] == ["half"]
    assert (await sealed.record(claimed.id)).progress == Progress(1, 2, "half")


async def test_a_progress_text_that_is_refused_is_left_out(sealed: StoreFixture) -> None:
    claimed = await sealed.start()
    await sealed.report((claimed.id, 1, Progress(1, 2, "half")))
    await sealed.redis.hset(sealed.keys.record(claimed.id), "message", "forged")

    assert (await sealed.record(claimed.id)).progress == Progress(1, 2, None)
    await sealed.redis.flushall()


async def test_a_session_a_reply_a_push_and_an_outbox_that_are_forged_are_refused(sealed: StoreFixture) -> None:
    sessions, calls = sealed.store.sessions, sealed.store.open_calls
    await sessions.open(Session("s", OWNER, "2025-11-25", {"clientInfo": {"name": SECRET}}))
    found = await sessions.find("s", OWNER)
    assert found is not None
    assert found.client == {"clientInfo": {"name": SECRET}}
    await sessions.expect_reply("s", "1")
    await sealed.redis.set(sealed.keys.reply("s:1"), b'{"result":{}}')
    with pytest.raises(DecryptionFailed):
        await sessions.take_reply("s", "1")
    assert sessions.open_push("s", b'{"message":{"method":"forged"}}') == {}
    await calls.append_message("call", 1, {"n": 1})
    await calls.append_message("call", 2, {"n": 2})
    assert await calls.read_messages("call", 1) == [(2, {"n": 2})]
    (_, first), *_ = await sealed.redis.xrange(sealed.keys.outbox("call"))
    await sealed.redis.xadd(sealed.keys.outbox("call"), first, id="3-0")
    assert await calls.read_messages("call", 2) is None
    await sealed.redis.hset(sealed.keys.session("s"), "principal", STRANGER)
    assert await sessions.find("s", STRANGER) is None


async def test_a_payload_moved_to_another_task_or_field_is_refused(sealed: StoreFixture) -> None:
    rich, poor = await sealed.start(arguments={"amount": 1_000_000}), await sealed.create()
    await sealed.redis.copy(sealed.keys.args(rich.id), sealed.keys.args(poor), replace=True)
    with pytest.raises(DecryptionFailed):
        sealed.ann.arguments(await sealed.take(poor))

    ended = await sealed.start()
    await sealed.finish(ended)
    await sealed.redis.set(sealed.keys.result(ended.id), ended.stored or b"", keepttl=True)
    outcome = (await sealed.read(ended.id)).outcome
    assert isinstance(outcome, Failed)
    assert outcome.fault is Fault.UNREADABLE


async def test_the_limit_counts_what_is_stored(stores: StoreFixture) -> None:
    tight = stores.with_settings(seal_keys=(NEW,), max_arguments=40)

    assert len(tight.store.pack("t", {}, tool="count", principal=OWNER)) == 37
    with pytest.raises(PayloadTooLarge, match="41 bytes"):
        tight.store.pack("t", {"": 1}, tool="count", principal=OWNER)


async def test_a_repeated_finish_is_known_again_although_each_seal_is_different(sealed: StoreFixture) -> None:
    claimed = await sealed.start()
    call = sealed.ann.finish_call(claimed.id, 1, DONE)

    assert await sealed.run(call, call) == [b"finished", b"already"]


@given(value=JSON, task_id=st.text(st.characters(codec="utf-8")), keys=st.sampled_from([(), (NEW,), (NEW, OLD)]))
def test_any_json_comes_back_as_it_was(value: Any, task_id: str, keys: tuple[bytes, ...]) -> None:
    sealer = Sealer(keys)

    assert sealer.open(sealer.seal(value, task_id=task_id, field="args"), task_id=task_id, field="args") == value


def test_the_same_value_never_looks_the_same() -> None:
    sealer = Sealer((NEW,))

    assert len({sealer.seal({}, task_id="t", field="args") for _ in range(100)}) == 100


def test_a_changed_or_shortened_payload_is_refused_wherever_it_was_touched() -> None:
    sealer = Sealer((NEW,))
    stored = sealer.seal({"n": 1}, task_id="t", field="args")
    touched = [stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1 :] for at in range(3, len(stored))]
    shortened = [stored[:at] for at in range(3, len(stored))]

    for damaged in [*touched, *shortened, stored + b"\0"]:
        with pytest.raises(DecryptionFailed):
            sealer.open(damaged, task_id="t", field="args")


def test_a_broken_seal_names_the_task_and_shows_nothing() -> None:
    stored = Sealer((NEW,)).seal(SECRET, task_id="t", field="args")

    with pytest.raises(DecryptionFailed) as refused:
        Sealer((OTHER,)).open(stored, task_id="t", field="args")
    assert refused.value.facts == {"task_id": "t"}
    assert SECRET not in str(refused.value)


async def test_a_session_goes_on_when_more_is_kept_of_its_client(sealed: StoreFixture) -> None:
    opened = Session("noted", OWNER, "2025-11-25", {"clientInfo": {"name": SECRET}})
    await sealed.store.sessions.open(opened)
    await sealed.store.sessions.note_of_client(opened, "level", "info")
    found = await sealed.store.sessions.find("noted", OWNER)
    assert found is not None
    assert found.client == {**opened.client, "level": "info"}
    assert not [part for part in plain_bytes((await sealed.found()).values) if SECRET.encode() in part]
