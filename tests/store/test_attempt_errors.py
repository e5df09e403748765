"""Errors of attempts: kept by the holder of the fence, the last ten, within a limit, sealed, as long as the task."""

import pytest

from taskmill.engine.events import AttemptError
from taskmill.store.formats.attempt_errors import ERROR_BYTES, ERRORS_KEPT
from tests.support.store_fixture import OWNER, StoreFixture

SECRET = "hush-hush"
CRASH = AttemptError("ValueError", f"no {SECRET}", f"Traceback\nValueError: no {SECRET}\n", "12ab", "", "", 0, 5, 1.5)


async def keep(stores: StoreFixture, task_id: str, fence: int, attempt: int = 1, error: AttemptError = CRASH) -> str:
    (reply,) = await stores.run(stores.ann.error_call(task_id, fence, attempt, error))
    return str(reply.decode())


async def test_an_error_is_read_back_with_the_worker_that_had_it_and_twice_is_once(stores: StoreFixture) -> None:
    claimed = await stores.start()
    assert await stores.store.attempt_errors(claimed.id) == {}

    assert await keep(stores, claimed.id, 1) == "kept"
    async with stores.nothing_changes():
        await keep(stores, claimed.id, 1)

    (error,) = (await stores.store.attempt_errors(claimed.id)).values()
    assert (error.type, error.text, error.reference, error.seconds) == ("ValueError", f"no {SECRET}", "12ab", 1.5)
    assert error.worker == "ann"
    assert error.host
    assert error.pid > 0


async def test_who_has_lost_the_task_keeps_nothing(stores: StoreFixture) -> None:
    running, ended = await stores.start(), await stores.start()
    await stores.finish(ended)

    async with stores.nothing_changes():
        assert await keep(stores, running.id, 2) == "lost"
        assert await keep(stores, ended.id, 1) == "lost"


async def test_the_last_ten_are_kept(stores: StoreFixture) -> None:
    claimed = await stores.start()
    for attempt in range(1, ERRORS_KEPT + 5):
        await keep(stores, claimed.id, 1, attempt)

    assert sorted(await stores.store.attempt_errors(claimed.id)) == list(range(5, 15))


@pytest.mark.parametrize("letter", ["x", "\x00", "四", "\ud83d", "\U0001f600", '"'])
async def test_an_error_of_any_text_is_cut_in_its_middle_to_what_is_kept(stores: StoreFixture, letter: str) -> None:
    claimed = await stores.start()
    long = "begin" + letter * 200_000 + "end"

    await keep(stores, claimed.id, 1, error=AttemptError(long, long, long, long))

    (stored,) = (await stores.found()).values[stores.keys.errors(claimed.id)].values()
    assert ERROR_BYTES / 2 < len(stored) <= ERROR_BYTES
    error = (await stores.store.attempt_errors(claimed.id))[1]
    for text in (error.type, error.text, error.traceback):
        assert text.startswith("begin")
        assert text.endswith("end")
        assert "characters left out" in text


@pytest.mark.parametrize("how", ["finish", "cancel"])
async def test_it_expires_with_its_task(stores: StoreFixture, how: str) -> None:
    claimed = await stores.start()
    await keep(stores, claimed.id, 1)
    assert (await stores.found()).ttls[stores.keys.errors(claimed.id)] == -1

    if how == "finish":
        await stores.finish(claimed)
    else:
        await stores.store.cancel(claimed.id, OWNER)

    ttls = (await stores.found()).ttls
    assert abs(ttls[stores.keys.errors(claimed.id)] - ttls[stores.keys.record(claimed.id)]) < 1000


async def test_a_process_without_the_key_says_so_and_shows_nothing(stores: StoreFixture) -> None:
    sealed = stores.with_settings(seal_keys=(b"n" * 32,))
    claimed = await sealed.start()
    await keep(sealed, claimed.id, 1)

    assert (await sealed.store.attempt_errors(claimed.id))[1].text == f"no {SECRET}"
    blind = await stores.store.attempt_errors(claimed.id)
    assert "TASKMILL_SEAL_KEYS" in blind[1].text
    assert SECRET not in repr(blind)


async def test_a_task_without_a_failed_attempt_has_no_such_key(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.finish(claimed)

    assert stores.keys.errors(claimed.id) not in (await stores.found()).values
