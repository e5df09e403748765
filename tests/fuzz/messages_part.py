"""The part `messages`: hostile requests to replicas in this process, tens of thousands of them."""

import asyncio
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis

from tests.fuzz.asgi import Asked
from tests.fuzz.choices import Choices
from tests.fuzz.examples import drive
from tests.fuzz.hostile import hostile
from tests.fuzz.oracle import Log, faults_of, leavings, watched
from tests.fuzz.report import Report
from tests.fuzz.target import ADA, BOB, OPERATOR_TOKEN, Site, open_site
from tests.fuzz.valid_requests import api, legacy
from tests.support.redis_server import PrivateRedis

__all__ = ["attack_with_messages"]

_SIZE = 96
_PASSING = ("taskmill.exchange", "taskmill.notices", "taskmill.stream", "taskmill.tail", "taskmill.asking")
"""Tasks of the event loop that belong to a request, and must go with it."""

Wrap = Callable[[Any], Any]


def attack_with_messages(examples: int, *, is_random: bool = False, plant: Wrap = lambda app: app) -> Report:
    """Send hostile requests, judge every answer, and what is left when they have all been answered.

    `plant`: around every application, for a flaw that the judges must see.
    """
    report = Report("messages")
    with asyncio.Runner() as runner, PrivateRedis() as server, watched() as log:
        loop, stop = runner.get_loop(), asyncio.Event()
        opened: asyncio.Future[Site] = loop.create_future()
        living = loop.create_task(_live(server.url, plant, opened, stop))
        site: Site = loop.run_until_complete(opened)

        def judge(data: bytes) -> tuple[list[str], str]:
            app, asked = hostile(Choices(data), site)
            faults = loop.run_until_complete(_judged(site, log, app, asked))
            return faults, f"to {app}: {asked}"

        drive(report, judge, examples=examples, size=_SIZE, is_random=is_random)
        if left := loop.run_until_complete(_aftermath(site, log)):
            report.found(left, "everything that was sent before")
        stop.set()
        loop.run_until_complete(living)
    return report


async def _live(url: str, plant: Wrap, opened: "asyncio.Future[Site]", stop: asyncio.Event) -> None:
    async with Redis.from_url(url) as redis, open_site(redis, url, plant=plant) as site:
        opened.set_result(site)
        await stop.wait()


async def _judged(site: Site, log: Log, app: str, asked: Asked) -> list[str]:
    answer = await site.send(app, asked)
    return faults_of(asked, answer) + log.faults()


async def _aftermath(site: Site, log: Log) -> list[str]:
    """What is wrong once everything has been said: it does not serve, keeps what is nobody's, or still works."""
    faults = await site.serves()
    faults += leavings(await site.found())
    await _end_everything(site)
    faults += await _still_running()
    return faults + log.faults()


async def _end_everything(site: Site) -> None:
    live = [member.decode() for member in await site.redis.zrange("{taskmill}:live", 0, -1)]
    for task_id in live:
        await site.send("guarded", api("POST", f"/api/tasks/{task_id}/cancel", OPERATOR_TOKEN))
    # A call that asks its client waits for the reply, wherever that may come from, until the session ends.
    sessions = [member.decode() for member in await site.redis.zrange("{taskmill}:sessions", 0, -1)]
    for session in sessions:
        for app, token in (("guarded", ADA), ("guarded", BOB), ("open", None)):
            await site.send(app, legacy(None, session, token, method="DELETE"))


async def _still_running() -> list[str]:
    try:
        async with asyncio.timeout(10):
            while running := [task.get_name() for task in asyncio.all_tasks() if task.get_name() in _PASSING]:
                await asyncio.sleep(0.02)
    except TimeoutError:
        return [f"still running with nobody there: {sorted(running)}"]
    return []
