"""What tools leave beside their results - artifacts and output - when workers die, sleep or lose Redis meanwhile."""

import asyncio
import signal
from pathlib import Path

import pytest

from taskmill.engine.artifact import ARTIFACT_URI
from taskmill.engine.errors import TaskNotFound
from taskmill.engine.outcome import Returned
from taskmill.engine.record import TaskView
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.redis_store import RedisTaskStore
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.redis_server import PrivateRedis
from tests.support.waiting import eventually_async
from tests.workers.deployment import Stage

WHOLE = b"1" * 300_000 + b"2" * 300_000


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """The directory of artifacts."""
    return tmp_path / "artifacts"


def files(shelf: Path) -> list[Path]:
    return [path for path in shelf.rglob("*") if path.is_file()]


async def artifact_of(stage: Stage, shelf: Path, view: TaskView) -> bytes:
    """The bytes behind the link of a result, as a server would read them."""
    assert isinstance(view.outcome, Returned)
    link = view.outcome.value["content"][1]
    store = RedisTaskStore(stage.redis, StoreSettings(redis_url=stage.settings["redis_url"], artifacts=f"dir:{shelf}"))
    artifact = await store.artifacts.find(link["uri"].removeprefix(ARTIFACT_URI), OPERATOR)
    return b"".join([piece async for piece in store.artifacts.read(artifact)])


async def output(stage: Stage, task_id: str) -> list[tuple[int, str]]:
    return [(chunk.attempt, chunk.content) for chunk in await stage.store.output.read(task_id)]


async def test_a_worker_killed_in_the_middle_of_a_file_leaves_none(stage: Stage, shelf: Path) -> None:
    stage.settings |= {"artifacts": f"dir:{shelf}", "reconcile_every": 0.1}
    first = await stage.worker()
    task_id = await stage.create_noted("furnish", stage.gate("never"), stage.gate())
    await stage.noted("half")
    await eventually_async(lambda: files(shelf))
    await first.kill()
    await stage.worker()
    stage.gate().touch()

    view = await stage.done(task_id)

    assert await artifact_of(stage, shelf, view) == WHOLE
    assert await output(stage, task_id) == [(1, "attempt 1"), (2, "attempt 2")]
    assert await stage.redis.scard(stage.keys.artifacts(task_id)) == 1
    half, whole = sorted(files(shelf), key=lambda path: path.suffix, reverse=True)
    assert (half.suffix, whole.suffix) == (".part", "")
    # A day later.
    assert await stage.redis.zadd(stage.keys.outside, {half.name.removesuffix(".part"): 1}, xx=True, ch=True) == 1
    await eventually_async(lambda: files(shelf), lambda left: left == [whole])


async def test_a_paused_workers_artifact_never_counts(stage: Stage, shelf: Path) -> None:
    """It wakes up when another worker has ended the task, and attaches what nobody is waiting for any more."""
    stage.settings["artifacts"] = f"dir:{shelf}"
    paused = await stage.worker()
    task_id = await stage.create_noted("furnish", stage.gate("late"), stage.gate())
    await stage.noted("half")
    paused.send(signal.SIGSTOP)
    await stage.worker()
    await stage.noted("half", times=2)
    stage.gate().touch()
    view = await stage.done(task_id)
    kept = await stage.redis.smembers(stage.keys.artifacts(task_id))
    stage.gate("late").touch()
    paused.send(signal.SIGCONT)

    await eventually_async(lambda: len(files(shelf)), lambda count: count == 1)
    assert await stage.redis.smembers(stage.keys.artifacts(task_id)) == kept
    assert await stage.read(task_id) == view
    assert await artifact_of(stage, shelf, view) == WHOLE


async def test_a_cancelled_tasks_half_written_file_is_removed(stage: Stage, shelf: Path) -> None:
    stage.settings["artifacts"] = f"dir:{shelf}"
    await stage.worker()
    task_id = await stage.create_noted("furnish", stage.gate())
    await stage.noted("half")
    await eventually_async(lambda: files(shelf))

    await stage.store.cancel(task_id, OPERATOR)

    await eventually_async(lambda: files(shelf), lambda left: left == [])
    with pytest.raises(TaskNotFound):
        await stage.store.artifacts.find("nothing", OPERATOR)
    await eventually_async(lambda: stage.redis.zcard(stage.keys.outside), lambda count: count == 0)


@pytest.mark.parametrize("place", ["redis", "dir"])
async def test_an_outage_of_redis_only_makes_a_tool_wait(
    frail: Stage, own_redis: PrivateRedis, shelf: Path, place: str
) -> None:
    """Of a Redis that keeps what it confirms; one that may lose a second's writes loses that artifact, and says so."""
    await frail.redis.config_set("appendfsync", "always")
    frail.settings |= {"artifacts": "redis" if place == "redis" else f"dir:{shelf}", "lease": 10}
    await frail.worker()
    task_id = await frail.create_noted("furnish", frail.gate())
    await frail.noted("half")
    own_redis.kill()
    frail.gate().touch()
    if place == "dir":
        await eventually_async(lambda: [path for path in files(shelf) if path.suffix != ".part"])
    await asyncio.to_thread(own_redis.start)

    view = await frail.done(task_id, within=10)

    assert (view.record.attempt, await artifact_of(frail, shelf, view)) == (1, WHOLE)


async def test_expired_artifacts_are_swept_by_a_worker(stage: Stage, shelf: Path) -> None:
    stage.settings |= {"artifacts": f"dir:{shelf}", "reconcile_every": 0.1}
    await stage.worker()
    stage.gate().touch()
    task_id = await stage.create_noted("furnish", stage.gate())
    await stage.done(task_id)
    (artifact,) = await stage.redis.smembers(stage.keys.artifacts(task_id))
    assert len(files(shelf)) == 1

    for key in (stage.keys.artifact(artifact.decode()), stage.keys.artifacts(task_id)):
        await stage.redis.delete(key)
    await stage.redis.zadd(stage.keys.outside, {artifact: 1}, xx=True)

    await eventually_async(lambda: files(shelf), lambda left: left == [])
    assert await eventually_async(lambda: stage.redis.zcard(stage.keys.outside), lambda count: count == 0) == 0
