"""A server over pipes whose tasks are known to one process only: a task of ours has that process to its end."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from taskmill.adapters.remote.host import RemoteHost
from taskmill.adapters.remote.settings import RemoteSettings
from taskmill.adapters.remote.target import command_target
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.redis_store import RedisTaskStore
from taskmill.store.tasks.tasks import OPERATOR
from taskmill.testing import ClientKind, TestBed
from tests.adapters import raw_task_server
from tests.support.deafening import Deafening
from tests.support.waiting import eventually_async

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
BedOf = Callable[..., TestBed]


@pytest.fixture(params=["2025-11-25", "2026-07-28"])
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TEST_FOLDER", str(tmp_path))
    return command_target([sys.executable, raw_task_server.__file__, request.param])


@pytest.fixture
async def bed(target: str, bed_of: BedOf) -> AsyncIterator[TestBed]:
    async with bed_of(RemoteHost(target, RemoteSettings()), handoff_after=5) as bed:
        yield bed


def calls_of(folder: Path, name: str) -> list[int]:
    file = folder / f"{name}.calls"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


async def is_gone(pid: int) -> None:
    await eventually_async(Path(f"/proc/{pid}").exists, lambda there: not there, within=30)


async def test_each_class_of_client_gets_the_result_of_the_servers_own_task(bed: TestBed, tmp_path: Path) -> None:
    for kind in ClientKind:
        (tmp_path / f"{kind}.gate").touch()
        async with bed.client(kind) as client:
            text = (await client.call("dig", name=str(kind))).text
        (pid,) = calls_of(tmp_path, kind)
        assert text == f"{kind} is dug in {pid}"
        if kind is ClientKind.TASKS_2026:
            await is_gone(pid)  # nothing else can use it


async def test_a_call_that_is_no_task_here_has_one_process_too(target: str, bed_of: BedOf, tmp_path: Path) -> None:
    (tmp_path / "it.gate").touch()
    async with bed_of(RemoteHost(target, RemoteSettings(task=("none",)))) as bed:
        async with bed.client(ClientKind.TASKS_2026) as client:
            text = (await client.call("dig", name="it")).text
        (pid,) = calls_of(tmp_path, "it")
        assert text == f"it is dug in {pid}"
        await is_gone(pid)


async def test_a_cancel_reaches_the_process_that_has_the_task(bed: TestBed, tmp_path: Path) -> None:
    async with bed.client(ClientKind.TASKS_2026) as client:
        task_id = await client.begin("dig", name="it")  # type: ignore[attr-defined]
        await eventually_async(lambda: calls_of(tmp_path, "it"), within=30)
        await client.cancel(task_id)  # type: ignore[attr-defined]
        await eventually_async((tmp_path / "it.cancelled").exists, within=30)
        await is_gone(calls_of(tmp_path, "it")[0])


@pytest.mark.parametrize("target", ["2025-11-25"], indirect=True)
async def test_a_cancel_whose_push_is_missed_reaches_the_server_too(
    target: str, bed_of: BedOf, redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    """The renewal of the lease finds that it is lost, and that the task has ended."""
    async with bed_of(RemoteHost(target, RemoteSettings()), lease=1.5, prefix="deaf") as bed:
        deaf = RedisTaskStore(Deafening(redis), StoreSettings(redis_url=redis_url, prefix="deaf"))  # type: ignore[arg-type]
        async with bed.client(ClientKind.TASKS_2026) as client:
            task_id = await client.begin("dig", name="it")  # type: ignore[attr-defined]
            await eventually_async(lambda: calls_of(tmp_path, "it"), within=30)
            assert await deaf.cancel(task_id, OPERATOR)
            await eventually_async((tmp_path / "it.cancelled").exists, within=30)


@pytest.mark.parametrize("target", ["2026-07-28"], indirect=True)
@pytest.mark.parametrize("tasks", ["*", "none"], ids=["task", "foreground"])
async def test_an_answer_goes_to_the_process_that_asked(target: str, bed_of: BedOf, tasks: str) -> None:
    """What a server keeps of a call between its rounds may be sealed with a key of its process."""
    async with bed_of(RemoteHost(target, RemoteSettings(task=(tasks,)))) as bed:
        async with bed.client(ClientKind.TASKS_2026, answers=[{"value": "plum"}]) as client:
            chosen, _, pid = (await client.call("choose")).text.split()
        assert chosen == "plum"
        await is_gone(int(pid))


@pytest.mark.parametrize("target", ["2025-11-25"], indirect=True)
async def test_a_task_that_died_with_its_process_fails_in_words(bed: TestBed, tmp_path: Path) -> None:
    async with bed.client(ClientKind.TASKS_2026) as client:
        calling = asyncio.create_task(client.call("dig", name="it"))
        (pid,) = await eventually_async(lambda: calls_of(tmp_path, "it"), within=30)
        os.kill(pid, signal.SIGKILL)
        record = await calling
    assert "no longer knows it" in record.text
    assert len(calls_of(tmp_path, "it")) == 1


@pytest.mark.parametrize("target", ["2025-11-25"], indirect=True)
async def test_a_task_that_died_with_its_process_is_made_again_where_that_is_safe(
    target: str, bed_of: BedOf, tmp_path: Path
) -> None:
    async with (
        bed_of(RemoteHost(target, RemoteSettings(repeat=("dig",)))) as bed,
        bed.client(ClientKind.TASKS_2026) as client,
    ):
        calling = asyncio.create_task(client.call("dig", name="it"))
        (pid,) = await eventually_async(lambda: calls_of(tmp_path, "it"), within=30)
        os.kill(pid, signal.SIGKILL)
        (tmp_path / "it.gate").touch()
        record = await calling
    _, second = calls_of(tmp_path, "it")
    assert record.text == f"it is dug in {second}"
