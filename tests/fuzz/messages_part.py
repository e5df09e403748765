"""The part `messages`: hostile requests to replicas in this process, tens of thousands of them."""

import asyncio
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis

from tests.fuzz.asgi import Asked
from tests.fuzz.choices import Choices
from tests.fuzz.examples import drive
from tests.fuzz.hostile import hostile
from tests.fuzz.oracle import Log, faults_of, watched, wrong_keys
from tests.fuzz.report import Report
from tests.fuzz.target import ADA, BOB, OPERATOR_TOKEN, Target, open_target
from tests.fuzz.valid_requests import api, legacy
from tests.support.redis_server import PrivateRedis

__all__ = ["attack_with_messages"]

_SIZE = 96
_PASSING = ("taskmill.request", "taskmill.notifications", "taskmill.stream", "taskmill.tail", "taskmill.asking")
"""Tasks of the event loop that belong to a request, and must go with it."""

Wrap = Callable[[Any], Any]


def attack_with_messages(examples: int, *, is_random: bool = False, wrap: Wrap = lambda app: app) -> Report:
    """Send hostile requests, judge every answer, and what is left when they have all been answered.

    `wrap`: around every application, for a flaw that the judges must see.
    """
    report = Report("messages")
    with asyncio.Runner() as runner, PrivateRedis() as server, watched() as log:
        loop, stop = runner.get_loop(), asyncio.Event()
        opened: asyncio.Future[Target] = loop.create_future()
        living = loop.create_task(_live(server.url, wrap, opened, stop))
        target: Target = loop.run_until_complete(opened)

        def judge(data: bytes) -> tuple[list[str], str]:
            app, asked = hostile(Choices(data), target)
            faults = loop.run_until_complete(_judged(target, log, app, asked))
            return faults, f"to {app}: {asked}"

        drive(report, judge, examples=examples, size=_SIZE, is_random=is_random)
        if left := loop.run_until_complete(_faults_afterwards(target, log)):
            report.found(left, "everything that was sent before")
        stop.set()
        loop.run_until_complete(living)
    return report


async def _live(url: str, wrap: Wrap, opened: "asyncio.Future[Target]", stop: asyncio.Event) -> None:
    async with Redis.from_url(url) as redis, open_target(redis, url, wrap=wrap) as target:
        opened.set_result(target)
        await stop.wait()


async def _judged(target: Target, log: Log, app: str, asked: Asked) -> list[str]:
    answer = await target.send(app, asked)
    return faults_of(asked, answer) + log.faults()


async def _faults_afterwards(target: Target, log: Log) -> list[str]:
    """What is wrong once everything has been said: it does not serve, keeps what is nobody's, or still works."""
    faults = await target.serves()
    faults += wrong_keys(await target.found())
    await _end_everything(target)
    faults += await _still_running()
    return faults + log.faults()


async def _end_everything(target: Target) -> None:
    live = [member.decode() for member in await target.redis.zrange("{taskmill}:live", 0, -1)]
    for task_id in live:
        await target.send("guarded", api("POST", f"/api/tasks/{task_id}/cancel", OPERATOR_TOKEN))
    # A call that asks its client waits for the reply, wherever that may come from, until the session ends.
    sessions = [member.decode() for member in await target.redis.zrange("{taskmill}:sessions", 0, -1)]
    for session in sessions:
        for app, token in (("guarded", ADA), ("guarded", BOB), ("open", None)):
            await target.send(app, legacy(None, session, token, method="DELETE"))


async def _still_running() -> list[str]:
    try:
        async with asyncio.timeout(10):
            while running := [task.get_name() for task in asyncio.all_tasks() if task.get_name() in _PASSING]:
                await asyncio.sleep(0.02)
    except TimeoutError:
        return [f"still running with nobody there: {sorted(running)}"]
    return []
