"""What tools keep for a session or a principal: whose it is, how long it is kept, how much there may be."""

from typing import Any

import pytest

from taskmill.engine.errors import DecryptionFailed, NotSerializable, StateUnavailable, TooLargeToStore
from taskmill.engine.principal import ANONYMOUS
from taskmill.store.sessions.sessions import Session
from taskmill.store.tasks.redis_store import RedisTaskStore
from tests.support.store_fixture import OWNER, STRANGER, StoreFixture

KEY = b"k" * 32


async def session(stores: StoreFixture, name: str, principal: str = OWNER) -> str:
    await stores.store.sessions.open(Session(name, principal, "2025-11-25", {}))
    return name


async def test_no_principal_and_no_session_reads_what_another_one_keeps(stores: StoreFixture) -> None:
    states = stores.store.caller_states
    first, second = await session(stores, "first"), await session(stores, "second")
    owners: list[tuple[str, str | None, Any]] = [
        (OWNER, None, "principal"),
        (STRANGER, None, "principal"),
        (OWNER, first, "session"),
        (OWNER, second, "session"),
        (ANONYMOUS, await session(stores, "third", ANONYMOUS), "session"),
    ]
    for number, (principal, in_session, scope) in enumerate(owners):
        await states.of(principal, in_session).write("k", {"n": number}, scope)
    found = [await states.of(principal, in_session).read("k", scope) for principal, in_session, scope in owners]
    assert found == [[{"n": number}] for number in range(len(owners))]
    assert await states.of(STRANGER, first).read("k", "session") == []
    with pytest.raises(StateUnavailable, match="session of this call has ended"):
        await states.of(STRANGER, first).write("k", 1, "session")
    assert await states.of(OWNER, first).read("k", None) == [{"n": 2}]
    assert await states.of(OWNER, None).read("k", None) == [{"n": 0}]
    await states.of(OWNER, None).delete("k", None)
    assert await states.of(OWNER, None).read("k", None) == []
    assert await states.of(OWNER, first).read("k", None) == [{"n": 2}]


async def test_two_servers_in_one_redis_keep_their_own_values_for_a_principal(stores: StoreFixture) -> None:
    mine, other = (stores.with_settings(app=app).store.caller_states.of(OWNER, None) for app in ("mine", "other"))
    await mine.write("k", 1, None)
    assert (await mine.read("k", None), await other.read("k", None)) == ([1], [])
    apps = ("mine~file", "mine~file+stack")
    under_development = [RedisTaskStore(stores.redis, stores.settings.model_copy(update={"app": app})) for app in apps]
    await under_development[0].caller_states.of(OWNER, None).write("k", 2, None)
    assert await under_development[1].caller_states.of(OWNER, None).read("k", None) == [2]


async def test_a_caller_without_that_scope_is_refused_in_words(stores: StoreFixture) -> None:
    nobody = stores.store.caller_states.of(ANONYMOUS, None)
    for scope, words in ((None, "has not signed in"), ("principal", "has not signed in"), ("session", "is in none")):
        with pytest.raises(StateUnavailable, match=words):
            await nobody.write("k", 1, scope)  # type: ignore[arg-type]  # these are scopes
        with pytest.raises(StateUnavailable, match=words):
            await nobody.read("k", scope)  # type: ignore[arg-type]
    with pytest.raises(StateUnavailable, match="has not signed in"):
        await stores.store.caller_states.of(ANONYMOUS, await session(stores, "s", ANONYMOUS)).read("k", "principal")
    with pytest.raises(ValueError, match='"session" or "principal"'):
        await nobody.read("k", "user")  # type: ignore[arg-type]


async def test_values_of_a_session_end_with_it_and_all_keys_expire(stores: StoreFixture) -> None:
    state = stores.store.caller_states.of(OWNER, await session(stores, "s"))
    await state.write("k", 1, "session")
    await state.write("k", 1, "principal")
    assert [await stores.redis.pttl(key) > 0 for key in await stores.redis.keys("*{taskmill}:s*")] == [True] * 3
    await stores.store.sessions.close(Session("s", OWNER, "2025-11-25", {}))
    assert await state.read("k", "session") == []
    assert await state.read("k", "principal") == [1]
    with pytest.raises(StateUnavailable, match='scope="principal"'):
        await state.write("k", 1, "session")
    await stores.store.sessions.take_over_stream("s", "a late replica")
    with pytest.raises(StateUnavailable):
        await state.write("k", 1, "session")


@pytest.mark.parametrize("scope", ["session", "principal"])
async def test_a_value_that_has_expired_is_not_read_and_makes_room(stores: StoreFixture, scope: Any) -> None:
    soon = stores.with_settings(state_limit=3, state_ttl=1)
    state = soon.store.caller_states.of(OWNER, await session(stores, "s"))
    for name in "abc":
        await state.write(name, name, scope)
    await state.write("a", "again", scope)
    with pytest.raises(TooLargeToStore, match=r"3 values for this .*TASKMILL_STATE_LIMIT.*'d' cannot be added"):
        await state.write("d", "d", scope)
    key = stores.keys.session("s") if scope == "session" else stores.keys.state(f":{OWNER}")
    stored = await stores.redis.hget(key, "state:b")
    await stores.redis.hset(key, "state:b", b"1 " + stored.partition(b" ")[2])  # it expired in 1970
    assert await state.read("b", scope) == []
    await state.write("d", "d", scope)
    assert [await state.read(name, scope) for name in "abcd"] == [["again"], [], ["c"], ["d"]]


async def test_what_cannot_be_kept_is_refused_and_leaves_the_value_as_it_was(stores: StoreFixture) -> None:
    state = stores.with_settings(max_state_value=20).store.caller_states.of(OWNER, None)
    await state.write("k", "short", None)
    with pytest.raises(TooLargeToStore, match=r"'k' is 23 bytes; 20 can be kept \(TASKMILL_MAX_STATE_VALUE\)"):
        await state.write("k", "x" * 21, None)
    for value in ("\ud800", float("nan"), {1, 2}):
        with pytest.raises(NotSerializable, match="'k'"):
            await state.write("k", value, None)
    assert await state.read("k", None) == ["short"]
    for name in ("", "x" * 201, "\ud800"):
        with pytest.raises(ValueError, match="1 to 200 characters"):
            await state.write(name, 1, None)
    with pytest.raises(TypeError, match="not int"):
        await state.read(1, None)  # type: ignore[arg-type]


async def test_a_sealed_value_opens_only_under_its_own_name_and_owner(stores: StoreFixture) -> None:
    states = stores.with_settings(seal_keys=(KEY,)).store.caller_states
    in_session = await session(stores, "s")
    await states.of(OWNER, None).write("k", "a secret word", None)
    mine = stores.keys.state(f":{OWNER}")
    stored = await stores.redis.hget(mine, "state:k")
    assert b"secret" not in stored
    assert await states.of(OWNER, None).read("k", None) == ["a secret word"]
    later = b"9%b" % stored
    await stores.redis.hset(mine, "state:k", later)
    with pytest.raises(DecryptionFailed):
        await states.of(OWNER, None).read("k", None)
    places: list[tuple[str, str, str, str | None]] = [
        (mine, "other", OWNER, None),
        (stores.keys.state(f":{STRANGER}"), "k", STRANGER, None),
        (stores.keys.session("s"), "k", OWNER, in_session),
    ]
    for key, name, principal, within in places:
        await stores.redis.hset(key, f"state:{name}", stored)
        with pytest.raises(DecryptionFailed):
            await states.of(principal, within).read(name, None)
    await stores.redis.delete(stores.keys.state(f":{STRANGER}"))
