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
from tests.workers.deployment import Deployment

WHOLE = b"1" * 300_000 + b"2" * 300_000


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """The directory of artifacts."""
    return tmp_path / "artifacts"


def files(shelf: Path) -> list[Path]:
    return [path for path in shelf.rglob("*") if path.is_file()]


async def artifact_of(deployment: Deployment, shelf: Path, view: TaskView) -> bytes:
    """The bytes behind the link of a result, as a server would read them."""
    assert isinstance(view.outcome, Returned)
    link = view.outcome.value["content"][1]
    store = RedisTaskStore(
        deployment.redis, StoreSettings(redis_url=deployment.settings["redis_url"], artifacts=f"dir:{shelf}")
    )
    artifact = await store.artifacts.find(link["uri"].removeprefix(ARTIFACT_URI), OPERATOR)
    return b"".join([piece async for piece in store.artifacts.read(artifact)])


async def output(deployment: Deployment, task_id: str) -> list[tuple[int, str]]:
    return [(chunk.attempt, chunk.content) for chunk in await deployment.store.output.read(task_id)]


@pytest.mark.usefixtures("short_lease")
async def test_a_worker_killed_in_the_middle_of_a_file_leaves_none(deployment: Deployment, shelf: Path) -> None:
    deployment.settings |= {"artifacts": f"dir:{shelf}", "reconcile_every": 0.1}
    first = await deployment.worker()
    task_id = await deployment.create_noted("furnish", deployment.gate("never"), deployment.gate())
    await deployment.noted("half")
    await eventually_async(lambda: files(shelf))
    await first.kill()
    await deployment.worker()
    deployment.gate().touch()

    view = await deployment.done(task_id)

    assert await artifact_of(deployment, shelf, view) == WHOLE
    assert await output(deployment, task_id) == [(1, "attempt 1"), (2, "attempt 2")]
    assert await deployment.redis.scard(deployment.keys.artifacts(task_id)) == 1
    half, whole = sorted(files(shelf), key=lambda path: path.suffix, reverse=True)
    assert (half.suffix, whole.suffix) == (".part", "")
    # A day later.
    assert (
        await deployment.redis.zadd(deployment.keys.outside, {half.name.removesuffix(".part"): 1}, xx=True, ch=True)
        == 1
    )
    await eventually_async(lambda: files(shelf), lambda left: left == [whole])


@pytest.mark.usefixtures("short_lease")
async def test_a_paused_workers_artifact_never_counts(deployment: Deployment, shelf: Path) -> None:
    """It wakes up when another worker has ended the task, and attaches what nobody is waiting for any more."""
    deployment.settings["artifacts"] = f"dir:{shelf}"
    paused = await deployment.worker()
    task_id = await deployment.create_noted("furnish", deployment.gate("late"), deployment.gate())
    await deployment.noted("half")
    paused.send(signal.SIGSTOP)
    await deployment.worker()
    await deployment.noted("half", times=2)
    deployment.gate().touch()
    view = await deployment.done(task_id)
    kept = await deployment.redis.smembers(deployment.keys.artifacts(task_id))
    deployment.gate("late").touch()
    paused.send(signal.SIGCONT)

    await eventually_async(lambda: len(files(shelf)), lambda count: count == 1)
    assert await deployment.redis.smembers(deployment.keys.artifacts(task_id)) == kept
    assert await deployment.read(task_id) == view
    assert await artifact_of(deployment, shelf, view) == WHOLE


async def test_a_cancelled_tasks_half_written_file_is_removed(deployment: Deployment, shelf: Path) -> None:
    deployment.settings["artifacts"] = f"dir:{shelf}"
    await deployment.worker()
    task_id = await deployment.create_noted("furnish", deployment.gate())
    await deployment.noted("half")
    await eventually_async(lambda: files(shelf))

    await deployment.store.cancel(task_id, OPERATOR)

    await eventually_async(lambda: files(shelf), lambda left: left == [])
    with pytest.raises(TaskNotFound):
        await deployment.store.artifacts.find("nothing", OPERATOR)
    await eventually_async(lambda: deployment.redis.zcard(deployment.keys.outside), lambda count: count == 0)


@pytest.mark.parametrize("place", ["redis", "dir"])
async def test_an_outage_of_redis_only_makes_a_tool_wait(
    fragile: Deployment, own_redis: PrivateRedis, shelf: Path, place: str
) -> None:
    """Of a Redis that keeps what it confirms; one that may lose a second's writes loses that artifact, and says so."""
    await fragile.redis.config_set("appendfsync", "always")
    fragile.settings |= {"artifacts": "redis" if place == "redis" else f"dir:{shelf}", "lease": 10}
    await fragile.worker()
    task_id = await fragile.create_noted("furnish", fragile.gate())
    await fragile.noted("half")
    own_redis.kill()
    fragile.gate().touch()
    if place == "dir":
        await eventually_async(lambda: [path for path in files(shelf) if path.suffix != ".part"])
    await asyncio.to_thread(own_redis.start)

    view = await fragile.done(task_id)

    assert (view.record.attempt, await artifact_of(fragile, shelf, view)) == (1, WHOLE)


async def test_expired_artifacts_are_swept_by_a_worker(deployment: Deployment, shelf: Path) -> None:
    deployment.settings |= {"artifacts": f"dir:{shelf}", "reconcile_every": 0.1}
    await deployment.worker()
    deployment.gate().touch()
    task_id = await deployment.create_noted("furnish", deployment.gate())
    await deployment.done(task_id)
    (artifact,) = await deployment.redis.smembers(deployment.keys.artifacts(task_id))
    assert len(files(shelf)) == 1

    for key in (deployment.keys.artifact(artifact.decode()), deployment.keys.artifacts(task_id)):
        await deployment.redis.delete(key)
    await deployment.redis.zadd(deployment.keys.outside, {artifact: 1}, xx=True)

    await eventually_async(lambda: files(shelf), lambda left: left == [])
    assert (
        await eventually_async(lambda: deployment.redis.zcard(deployment.keys.outside), lambda count: count == 0) == 0
    )
