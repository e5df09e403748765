"""A coroutine that is begun in the name of another asyncio task: what happens in it concerns that task."""

import asyncio
from collections.abc import Awaitable, Coroutine
from contextvars import ContextVar, copy_context
from typing import Any

import pytest
from anyio import fail_after

from taskmill.server.streams.eager import run_eagerly

_caller: ContextVar[str] = ContextVar("caller", default="nobody")


class Sleeper:
    """A task that awaits what others have begun in its name."""

    def __init__(self) -> None:
        self._begun: asyncio.Future[Awaitable[None]] = asyncio.get_running_loop().create_future()
        _caller.set("sleeper")
        self.task = asyncio.create_task(self._sleep())
        self._context = copy_context()
        _caller.set("test")

    def run(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether it has ended at once."""
        waiting = run_eagerly(work, self.task, self._context)
        if waiting is not None:
            self._begun.set_result(waiting)
        return waiting is None

    async def _sleep(self) -> None:
        await (await self._begun)


async def test_work_without_a_wait_ends_at_once_as_the_other_task_and_in_its_context() -> None:
    sleeper, seen = Sleeper(), []

    async def work() -> None:
        seen.append((asyncio.current_task(), _caller.get()))

    assert sleeper.run(work())
    assert seen == [(sleeper.task, "sleeper")]
    assert asyncio.current_task() is not sleeper.task
    sleeper.task.cancel()


async def test_the_rest_of_work_that_waits_runs_in_the_same_context_and_may_undo_what_it_has_set() -> None:
    sleeper, gate = Sleeper(), asyncio.Event()

    async def work() -> None:
        token = _caller.set("work")
        await gate.wait()
        _caller.reset(token)

    assert not sleeper.run(work())
    gate.set()
    with fail_after(30):
        await sleeper.task
    assert _caller.get() == "test"


async def test_a_timeout_in_the_work_meets_the_task_that_waits_and_not_the_one_that_has_begun_it() -> None:
    sleeper = Sleeper()

    async def work() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    assert not sleeper.run(work())
    with fail_after(30):
        await asyncio.wait([sleeper.task])
    assert isinstance(sleeper.task.exception(), TimeoutError)


async def test_an_error_at_once_is_raised_where_the_work_is_begun() -> None:
    sleeper = Sleeper()

    async def work() -> None:
        raise OSError("it is closed")

    with pytest.raises(OSError, match="closed"):
        sleeper.run(work())
    sleeper.task.cancel()
