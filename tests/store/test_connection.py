"""What happens when Redis is not there, does not answer, refuses or is unfit: soon, in our words, with no password."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest
from anyio import fail_after
from redis.asyncio import Redis

from taskmill.engine.errors import OperatorError, RedisUnfit, SettingsError, StoreUnavailable, TaskNotFound
from taskmill.store.claims.heartbeat import Heartbeat
from taskmill.store.connection.client import connect, open_redis, redacted_url
from taskmill.store.opening import open_store
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.redis_store import RedisTaskStore
from tests.support.redis_server import PrivateRedis, free_port
from tests.support.store_fixture import OWNER, StoreFixture
from tests.support.waiting import PROMPTLY

PASSWORD = "hunter2secret"


@asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """The address of a server that accepts connections and never answers."""
    held = []

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        await reader.read()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()
        for writer in held:
            writer.close()


@pytest.fixture(params=["unix", "tcp"])
async def guarded(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[str], str]]:
    """A Redis with a password: its address with the given user and password in it."""
    port = free_port()
    with PrivateRedis(port=str(port)) as server:
        async with Redis.from_url(server.url) as client:
            await client.config_set("requirepass", PASSWORD)
        path = server.url.removeprefix("unix://")
        forms = {"unix": f"unix://{{}}{path}", "tcp": f"redis://{{}}127.0.0.1:{port}/0"}
        yield forms[request.param].format


async def complaint(settings: StoreSettings, kind: type[OperatorError], **options: float) -> str:
    """The error of opening a store; it must come soon."""
    with fail_after(30), pytest.raises(kind) as refused:
        async with open_redis(settings, **options):
            pass
    assert type(refused.value) is kind
    assert PASSWORD not in str(refused.value)
    return str(refused.value)


async def test_a_start_without_redis_waits_until_its_timeout_and_names_the_address() -> None:
    port = free_port()
    settings = StoreSettings(redis_url=f"redis://user:{PASSWORD}@127.0.0.1:{port}/0")
    before = monotonic()

    text = await complaint(settings, StoreUnavailable, timeout=0.4)

    assert 0.3 < monotonic() - before < PROMPTLY
    assert f"at redis://…@127.0.0.1:{port}/0 cannot be reached" in text


async def test_a_start_waits_for_a_redis_that_comes_up_late() -> None:
    server = PrivateRedis()
    try:
        async with asyncio.TaskGroup() as group:
            starting = group.create_task(opened(StoreSettings(redis_url=server.url)))
            await asyncio.sleep(0)
            server.launch()
            assert await starting
    finally:
        server.stop()


async def opened(settings: StoreSettings) -> bool:
    async with open_store(settings) as store:
        await store.ping()
    return True


@pytest.mark.parametrize("url", ["unix:///nowhere/redis.sock", "redis://127.0.0.1:{port}/0"])
async def test_without_redis_every_call_is_store_unavailable_at_once(stores: StoreFixture, url: str) -> None:
    port = free_port()
    nowhere = StoreSettings(redis_url=url.format(port=port))
    async with connect(nowhere) as client:
        lost = StoreFixture(client, nowhere)
        calls = [lost.create, lost.claim, lambda: lost.read("t"), lambda: lost.store.history("t"), lost.store.ping]
        calls += [lambda: lost.store.cancel("t", OWNER), lambda: lost.store.answer("t", OWNER, {"k": 1})]
        calls += [lambda: lost.ann.is_open("t"), lambda: lost.ann.answers("t", ["k"]), lost.store.workers]
        with fail_after(30):
            for call in calls:
                with pytest.raises(StoreUnavailable, match="Nothing was lost"):
                    await call()


async def test_a_redis_that_never_answers_is_unavailable_within_the_command_timeout() -> None:
    async with silent_server() as url:
        settings = StoreSettings(redis_url=url, command_timeout=0.2)
        async with connect(settings) as client:
            store = RedisTaskStore(client, settings)
            before = monotonic()
            with pytest.raises(StoreUnavailable):
                await store.read("t", OWNER)
        assert monotonic() - before < PROMPTLY


async def test_many_callers_of_a_silent_redis_do_not_wait_for_one_another() -> None:
    async with silent_server() as url:
        settings = StoreSettings(redis_url=url, command_timeout=0.3)
        async with connect(settings) as client:
            store = RedisTaskStore(client, settings)
            before = monotonic()
            text = await asyncio.gather(*(store.read("t", OWNER) for _ in range(20)), return_exceptions=True)
        assert [type(error) for error in text] == [StoreUnavailable] * 20
        assert monotonic() - before < PROMPTLY


async def test_a_lease_keeper_does_not_hang_on_a_silent_redis() -> None:
    async with silent_server() as url:
        settings = StoreSettings(redis_url=url, command_timeout=0.2)
        async with connect(settings) as client:
            heartbeat = Heartbeat(settings, StoreFixture(client, settings).ann, "ann")
            with fail_after(30):
                with pytest.raises(StoreUnavailable):
                    await asyncio.to_thread(heartbeat.renew, [("t", 1)], {})
                await asyncio.to_thread(heartbeat.leave)


async def test_a_burst_of_callers_shares_one_connection(stores: StoreFixture) -> None:
    """A burst is no outage."""
    task_id = await stores.create()
    async with connect(stores.settings) as client:
        store = RedisTaskStore(client, stores.settings)
        await stores.redis.client_pause(100)
        views = await asyncio.gather(*(store.read(task_id, OWNER) for _ in range(300)))
        clients = await stores.redis.client_list()

    assert len(views) == 300
    assert len(clients) == 2  # all of them on one connection, and the test's own


async def test_a_store_works_again_once_its_redis_is_back() -> None:
    with PrivateRedis(appendonly="yes", appendfsync="always") as server:
        async with open_store(StoreSettings(redis_url=server.url)) as store:
            stores = StoreFixture(Redis.from_url(server.url), StoreSettings(redis_url=server.url))
            task = stores.task()
            created = await store.create(task)
            await stores.redis.aclose()

            server.kill()
            with pytest.raises(StoreUnavailable):
                await store.read(task.id, OWNER)
            server.start()

            assert await store.read(task.id, OWNER) == created
            with pytest.raises(TaskNotFound):
                await store.read("never-seen", OWNER)


async def test_a_wrong_password_is_reported_at_once_and_not_shown(guarded: Callable[[str], str]) -> None:
    """Waiting does not cure it."""
    before = monotonic()

    text = await complaint(StoreSettings(redis_url=guarded(f"default:not-{PASSWORD}@")), RedisUnfit)

    assert "refused the user name or password in TASKMILL_REDIS_URL" in text
    assert monotonic() - before < PROMPTLY


async def test_a_missing_password_is_reported_at_once(guarded: Callable[[str], str]) -> None:
    assert "user name or password" in await complaint(StoreSettings(redis_url=guarded("")), RedisUnfit)


async def test_the_right_password_opens(guarded: Callable[[str], str]) -> None:
    assert await opened(StoreSettings(redis_url=guarded(f":{PASSWORD}@")))


async def test_an_unfit_redis_is_refused_with_the_setting_to_change() -> None:
    with PrivateRedis(maxmemory_policy="allkeys-lru") as server:
        text = await complaint(StoreSettings(redis_url=server.url), RedisUnfit)

    assert "CONFIG SET maxmemory-policy noeviction" in text


async def test_no_address_fails_with_how_to_get_one() -> None:
    text = await complaint(StoreSettings(redis_url=None), SettingsError)

    assert text == (
        "No Redis: set TASKMILL_REDIS_URL, or start through `taskmill run`, which brings its own. "
        "A desktop host starts `taskmill stdio`: `taskmill install` configures it."
    )


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{PASSWORD}@host",
        f"redis://:{PASSWORD}/and@host:6379/0",
        f"redis://user:{PASSWORD}#x@host:6379/0",
        f"redis://host:{PASSWORD}/0",
        PASSWORD,
        "",
    ],
)
async def test_what_is_no_address_is_refused_without_showing_it(url: str) -> None:
    """An unescaped character in a password cuts the address at the wrong place."""
    text = await complaint(StoreSettings(redis_url=url), SettingsError)

    assert "TASKMILL_REDIS_URL" in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("unix:///run/redis.sock?db=0", "unix:///run/redis.sock?db=0"),
        (f"redis://:{PASSWORD}@h:1/0", "redis://…@h:1/0"),
        (f"rediss://user:{PASSWORD}@h", "rediss://…@h"),
        (f"redis://user:with@{PASSWORD}@h", "redis://…@h"),
        (f"redis://h:1/0?password={PASSWORD}", "redis://…"),
        (f"unix:///run/redis.sock?db=0&password={PASSWORD}", "unix://…"),
        (f"redis://h?password=a@{PASSWORD}", "redis://…"),
        (f"unix://user:{PASSWORD}@/run/redis.sock?db=0", "unix://…@/run/redis.sock?db=0"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert redacted_url(url) == shown


@pytest.mark.parametrize("name", ["redis_url", "seal_keys"])
def test_settings_do_not_show_their_secrets(name: str) -> None:
    """Whatever prints or logs them."""
    settings: Any = StoreSettings(redis_url=f"redis://:{PASSWORD}@h", seal_keys=(PASSWORD.encode().ljust(32),))

    assert f"{name}=" not in repr(settings)
    assert PASSWORD not in repr(settings)
    assert PASSWORD not in str(settings)


async def test_a_cancel_that_comes_while_a_command_is_sent_is_not_forgotten(redis_url: str) -> None:
    """At whichever step of the look-up it comes; a forgotten one leaves its task to wait for ever."""
    async with open_store(StoreSettings(redis_url=redis_url)) as store:
        reached = set()
        for steps in range(12):
            await store.find("x", OWNER)  # a connection that has been used before
            looking = asyncio.create_task(store.find("x", OWNER))
            for _ in range(steps):
                await asyncio.sleep(0)
            was_cancelled = looking.cancel()
            await asyncio.wait([looking])
            assert looking.cancelled() is was_cancelled, f"after {steps} steps"
            reached.add(was_cancelled)
            assert await store.find("x", OWNER) is None, "the next one reads its own reply"
        assert True in reached
