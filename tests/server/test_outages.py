"""Redis away: before the start, in mid-call, silent. Always a clear, retryable error; never a hang, never a loss."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from taskmill.engine.errors import SettingsError, StoreUnavailable
from taskmill.store.connection.client import open_redis
from taskmill.store.opening import open_store
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.tasks import OPERATOR, TaskStore
from tests.support.redis_server import PrivateRedis
from tests.support.replica import client_of, working
from tests.support.sample_server import make_server

UNREACHABLE = {"retryable": True, "reason": "store_unavailable"}


@pytest.fixture
async def server() -> AsyncIterator[PrivateRedis]:
    with PrivateRedis(appendonly="yes", appendfsync="no") as server:
        yield server


def settings_of(url: str) -> StoreSettings:
    return StoreSettings(redis_url=url, command_timeout=3)


async def test_a_call_without_redis_fails_soon_and_says_that_it_may_be_repeated(server: PrivateRedis) -> None:
    async with client_of(make_server(settings_of(server.url))) as rpc:
        task_id = await rpc.task("stay")
        server.kill()
        with anyio.fail_after(30):
            created, got = await rpc.call("stay"), await rpc.get(task_id)
            ready = await rpc.http.get(rpc.url.replace("/mcp", "/readyz"))
            healthy = await rpc.http.get(rpc.url.replace("/mcp", "/healthz"))
        for error in (created["error"], got["error"]):
            assert (error["code"], error["data"]) == (-32603, UNREACHABLE)
            assert "try again" in error["message"]
            assert "redis.sock" not in error["message"]
        assert (ready.status_code, healthy.status_code) == (503, 200)
        server.start()
        assert (await rpc.get(task_id))["result"]["status"] == "working"


async def test_a_held_call_outlives_an_outage(server: PrivateRedis, tmp_path: Path) -> None:
    settings = settings_of(server.url)
    async with client_of(make_server(settings)) as rpc, working(make_server(settings), settings):
        gate = tmp_path / "gate"
        held = asyncio.create_task(rpc.without_tasks().call("until_exists", path=str(gate)))
        async with open_store(settings) as store:
            with anyio.fail_after(30):
                while not await is_running(store):
                    await anyio.sleep(0.01)
        server.kill()
        server.start()
        gate.touch()
        with anyio.fail_after(30):
            assert (await held)["result"]["content"][0]["text"] == "there"


async def test_a_redis_that_accepts_and_never_answers_is_an_error_not_a_hang() -> None:
    async with silent_redis() as url:
        with anyio.fail_after(30), pytest.raises(StoreUnavailable):
            async with open_redis(StoreSettings(redis_url=url, command_timeout=1), timeout=2):
                raise AssertionError("connected to nobody")


async def is_running(store: TaskStore) -> bool:
    ids = await store._redis.zrange(store.keys.live, 0, -1)
    return any([(await store.read(task_id.decode(), OPERATOR)).record.status == "running" for task_id in ids])


@asynccontextmanager
async def silent_redis() -> AsyncIterator[str]:
    """A server that accepts connections and says nothing."""
    gone = asyncio.Event()

    async def keep(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    server = await asyncio.start_server(keep, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        gone.set()
        server.close()


async def test_starting_without_redis_ends_with_an_error_that_names_the_address_but_no_password() -> None:
    settings = settings_of("redis://user:swordfish@127.0.0.1:1/0")
    with anyio.fail_after(30), pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1") as caught:
        async with open_redis(settings, timeout=0.5):
            raise AssertionError("connected to nobody")
    assert "swordfish" not in str(caught.value)


async def test_starting_without_an_address_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASKMILL_REDIS_URL", raising=False)
    with pytest.raises(SettingsError, match="TASKMILL_REDIS_URL"):
        async with open_store(StoreSettings()):
            raise AssertionError("started without a store")


async def test_a_server_that_is_not_serving_says_so(server: PrivateRedis) -> None:
    mcp = make_server(settings_of(server.url))
    with pytest.raises(StoreUnavailable, match="lifespan"):
        await mcp.store.ping()
