"""Redis dies and comes back with its append-only file: no worker ends, no task is lost, no result either."""

import asyncio
import signal
from time import monotonic
from typing import Self

import pytest

from tests.support.redis_server import PrivateRedis
from tests.support.results import text_of_task
from tests.support.waiting import eventually_async
from tests.workers.deployment import Stage


async def outage(stage: Stage, redis: PrivateRedis, seconds: float) -> None:
    """Kill Redis and start it again after so long."""
    redis.kill()
    ends = monotonic() + seconds
    await eventually_async(monotonic, lambda now: now >= ends, within=seconds + 1)
    await asyncio.to_thread(redis.start)


async def run_fifty(stage: Stage) -> list[str]:
    """Fifty tasks on two workers, all of them running."""
    for _ in range(2):
        await stage.worker(concurrency=25)
    tasks = await asyncio.gather(*(stage.create_noted("walk", stage.gate()) for _ in range(50)))
    await stage.noted("start", times=50)
    return tasks


async def test_redis_killed_under_fifty_tasks_changes_nothing_for_them(frail: Stage, own_redis: PrivateRedis) -> None:
    """an outage shorter than the lease is not even a crash."""
    frail.settings["lease"] = 5
    tasks = await run_fifty(frail)
    await outage(frail, own_redis, 0.1)
    frail.gate().touch()
    for task_id in tasks:
        view = await frail.done(task_id, within=10)
        assert (text_of_task(view), view.record.attempt, view.record.crashes) == ("fence 1", 1, 0)
    assert [worker.code for worker in frail.workers] == [None, None]


async def test_an_outage_longer_than_the_lease_loses_no_task(frail: Stage, own_redis: PrivateRedis) -> None:
    """Whoever is first after it, the old owner or another worker: each task ends once, with a result."""
    tasks = await run_fifty(frail)
    await outage(frail, own_redis, 2)
    frail.gate().touch()
    for task_id in tasks:
        view = await frail.done(task_id, within=10)
        assert (view.record.status, text_of_task(view)) == ("completed", f"fence {view.record.fence}")
    assert [worker.code for worker in frail.workers] == [None, None]


@pytest.mark.parametrize("seconds", [0.2, 2])
async def test_a_result_finished_during_an_outage_arrives(
    frail: Stage, own_redis: PrivateRedis, seconds: float
) -> None:
    """With a lease of one second: also when the lease lapses meanwhile, as long as nobody else takes the task."""
    await frail.worker(concurrency=20)
    tasks = [await frail.create_noted("walk", frail.gate()) for _ in range(10)]
    await frail.noted("start", times=10)
    own_redis.kill()
    frail.gate().touch()
    await frail.noted("finish", times=10)
    await outage(frail, own_redis, seconds)
    for task_id in tasks:
        view = await frail.done(task_id, within=10)
        assert (text_of_task(view), view.record.attempt, view.record.crashes) == ("fence 1", 1, 0)


async def test_a_worker_works_on_after_an_outage(frail: Stage, own_redis: PrivateRedis) -> None:
    """Push, cancel signal, progress and health are back, not only the tasks that ran."""
    await frail.worker(poll=0.5, lease=3)
    await outage(frail, own_redis, 0.1)
    assert (await frail.done(await eventually_async(lambda: frail.create_noted("quick")))).record.status == "completed"
    (health,) = await eventually_async(frail.store.workers, within=10)
    task_id = await frail.create_noted("walk", frail.gate())
    await frail.noted("start", task_id)
    await frail.listening(health["worker"])
    began = monotonic()
    await frail.store.cancel(task_id, "")
    assert (await frail.noted("cancelled", task_id)).at - began < 0.3
    counting = await frail.create_noted("count", frail.gate(), n=10)
    await eventually_async(lambda: frail.record(counting), lambda record: record.progress.done == 10)


async def test_a_question_put_during_an_outage_is_asked_after_it(frail: Stage, own_redis: PrivateRedis) -> None:
    """The tool waits; it does not fail."""
    await frail.worker(lease=5)
    task_id = await frail.create_noted("ask_after", frail.gate())
    await frail.noted("start", task_id)
    own_redis.kill()
    frail.gate().touch()
    await frail.noted("asking", task_id)
    await outage(frail, own_redis, 0.2)
    view = await frail.until(task_id, "input_required")
    await frail.store.answer(task_id, "anonymous", {key: {"action": "decline"} for key in view.questions})
    assert text_of_task(await frail.done(task_id)) == "decline"


async def test_redis_that_hangs_for_a_while_ends_no_worker(frail: Stage, own_redis: PrivateRedis) -> None:
    """No connection breaks: commands only run into their time limit."""
    worker = await frail.worker(command_timeout=0.3)
    task_id = await frail.create_noted("walk", frail.gate())
    await frail.noted("start", task_id)
    assert own_redis.process is not None
    own_redis.process.send_signal(signal.SIGSTOP)
    frail.gate().touch()
    await frail.noted("finish", task_id)
    await eventually_async(lambda: worker.said("store.turn_failed"))
    own_redis.process.send_signal(signal.SIGCONT)
    view = await frail.done(task_id)
    assert (text_of_task(view), view.record.attempt) == ("fence 1", 1)
    assert (await frail.done(await frail.create_noted("quick"))).record.status == "completed"


async def test_a_worker_whose_connections_go_dead_without_a_word_works_on(stage: Stage) -> None:
    """A firewall forgot them: nothing arrives any more on the old connections, new ones work."""
    async with Firewall(stage.settings["redis_url"]) as firewall:
        stage.settings["redis_url"] = f"redis://127.0.0.1:{firewall.port}"
        await stage.worker(command_timeout=0.3, poll=0.2)
        assert (await stage.done(await stage.create_noted("quick"))).record.status == "completed"
        firewall.forget()
        assert (await stage.done(await stage.create_noted("quick"), within=12)).record.status == "completed"


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
