"""Redis dies and comes back with its append-only file: no worker ends, no task is lost, no result either."""

import asyncio
import signal
from time import monotonic
from typing import Self

import pytest

from tests.support.redis_server import PrivateRedis
from tests.support.results import text_of_task
from tests.support.waiting import PROMPTLY, eventually_async
from tests.workers.deployment import Deployment


async def outage(deployment: Deployment, redis: PrivateRedis, seconds: float) -> None:
    """Kill Redis and start it again after so long."""
    redis.kill()
    ends = monotonic() + seconds
    await eventually_async(monotonic, lambda now: now >= ends, within=seconds + 1)
    await asyncio.to_thread(redis.start)


async def run_fifty(deployment: Deployment) -> list[str]:
    """Fifty tasks on two workers, all of them running."""
    for _ in range(2):
        await deployment.worker(concurrency=25)
    tasks = await asyncio.gather(*(deployment.create_noted("walk", deployment.gate()) for _ in range(50)))
    await deployment.noted("start", times=50)
    return tasks


async def test_redis_killed_under_fifty_tasks_changes_nothing_for_them(
    fragile: Deployment, own_redis: PrivateRedis
) -> None:
    """an outage shorter than the lease is not even a crash."""
    fragile.settings["lease"] = 20
    tasks = await run_fifty(fragile)
    await outage(fragile, own_redis, 0.1)
    fragile.gate().touch()
    for task_id in tasks:
        view = await fragile.done(task_id)
        assert (text_of_task(view), view.record.attempt, view.record.crashes) == ("fence 1", 1, 0)
    assert [worker.code for worker in fragile.workers] == [None, None]


async def test_an_outage_longer_than_the_lease_loses_no_task(fragile: Deployment, own_redis: PrivateRedis) -> None:
    """Whoever is first after it, the old owner or another worker: each task ends once, with a result."""
    tasks = await run_fifty(fragile)
    await outage(fragile, own_redis, 2)
    fragile.gate().touch()
    for task_id in tasks:
        view = await fragile.done(task_id)
        assert (view.record.status, text_of_task(view)) == ("completed", f"fence {view.record.fence}")
    assert [worker.code for worker in fragile.workers] == [None, None]


@pytest.mark.parametrize("seconds", [0.2, 2])
async def test_a_result_finished_during_an_outage_arrives(
    fragile: Deployment, own_redis: PrivateRedis, seconds: float
) -> None:
    """With a short lease: also when it lapses meanwhile, as long as nobody else takes the task."""
    await fragile.worker(concurrency=20)
    tasks = [await fragile.create_noted("walk", fragile.gate()) for _ in range(10)]
    await fragile.noted("start", times=10)
    own_redis.kill()
    fragile.gate().touch()
    await fragile.noted("finish", times=10)
    await outage(fragile, own_redis, seconds)
    for task_id in tasks:
        view = await fragile.done(task_id)
        assert (text_of_task(view), view.record.attempt, view.record.crashes) == ("fence 1", 1, 0)


async def test_a_worker_works_on_after_an_outage(fragile: Deployment, own_redis: PrivateRedis) -> None:
    """Push, cancel signal, progress and health are back, not only the tasks that ran."""
    await fragile.worker(poll=0.5, lease=3)
    await outage(fragile, own_redis, 0.1)
    assert (
        await fragile.done(await eventually_async(lambda: fragile.create_noted("quick")))
    ).record.status == "completed"
    (health,) = await eventually_async(fragile.store.workers)
    task_id = await fragile.create_noted("walk", fragile.gate())
    await fragile.noted("start", task_id)
    await fragile.listening(health["worker"])
    began = monotonic()
    await fragile.store.cancel(task_id, "")
    assert (await fragile.noted("cancelled", task_id)).at - began < PROMPTLY
    counting = await fragile.create_noted("count", fragile.gate(), n=10)
    await eventually_async(lambda: fragile.record(counting), lambda record: record.progress.done == 10)


async def test_a_question_put_during_an_outage_is_asked_after_it(fragile: Deployment, own_redis: PrivateRedis) -> None:
    """The tool waits; it does not fail."""
    await fragile.worker(lease=20)
    task_id = await fragile.create_noted("ask_after", fragile.gate())
    await fragile.noted("start", task_id)
    own_redis.kill()
    fragile.gate().touch()
    await fragile.noted("asking", task_id)
    await outage(fragile, own_redis, 0.2)
    view = await fragile.until(task_id, "input_required")
    await fragile.store.answer(task_id, "anonymous", {key: {"action": "decline"} for key in view.questions})
    assert text_of_task(await fragile.done(task_id)) == "decline"


async def test_redis_that_hangs_for_a_while_ends_no_worker(fragile: Deployment, own_redis: PrivateRedis) -> None:
    """No connection breaks: commands only run into their time limit."""
    worker = await fragile.worker(command_timeout=0.3)
    task_id = await fragile.create_noted("walk", fragile.gate())
    await fragile.noted("start", task_id)
    assert own_redis.process is not None
    own_redis.process.send_signal(signal.SIGSTOP)
    fragile.gate().touch()
    await fragile.noted("finish", task_id)
    await eventually_async(lambda: worker.said("store.turn_failed"))
    own_redis.process.send_signal(signal.SIGCONT)
    view = await fragile.done(task_id)
    assert (text_of_task(view), view.record.attempt) == ("fence 1", 1)
    assert (await fragile.done(await fragile.create_noted("quick"))).record.status == "completed"


async def test_a_worker_whose_connections_go_dead_without_a_word_works_on(deployment: Deployment) -> None:
    """A firewall forgot them: nothing arrives any more on the old connections, new ones work."""
    async with Firewall(deployment.settings["redis_url"]) as firewall:
        deployment.settings["redis_url"] = f"redis://127.0.0.1:{firewall.port}"
        await deployment.worker(command_timeout=0.3, poll=0.2)
        assert (await deployment.done(await deployment.create_noted("quick"))).record.status == "completed"
        firewall.forget()
        assert (await deployment.done(await deployment.create_noted("quick"))).record.status == "completed"


class Firewall:
    """A TCP port in front of a unix socket that can silently drop what comes over the connections it has."""

    def __init__(self, url: str) -> None:
        self._socket = url.removeprefix("unix://").partition("?")[0]
        self._pipes: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._age = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for pipe in self._pipes:
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)
        for writer in self._writers:
            writer.close()

    def forget(self) -> None:
        """Pass on nothing more over the present connections."""
        self._age += 1

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_unix_connection(self._socket)
        self._writers += [writer, outer]
        for source, sink in ((reader, outer), (inner, writer)):
            self._pipes.add(asyncio.create_task(self._pump(source, sink, self._age)))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, age: int) -> None:
        while data := await source.read(65536):
            if age == self._age:
                sink.write(data)
                await sink.drain()
        if age == self._age:
            sink.close()
