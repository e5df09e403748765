"""Runs a coroutine at once in the name of an asyncio task that waits: most sends to a reader have nothing to wait for.

The functions of asyncio that switch the current task are documented for those who write tasks of their own. This can
go when asyncio itself can run a piece of work in the name of another task; eager tasks (Python 3.12) are new ones.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from types import coroutine
from typing import Any

__all__ = ["run_eagerly"]


def run_eagerly(work: Coroutine[Any, Any, None], task: asyncio.Task[Any], context: Context) -> Awaitable[None] | None:
    """Run `work` up to where it has to wait, as `task` and with its context; None = it has ended.

    Else `task` must await what is returned: the rest. So a timeout or a cancellation inside `work` meets `task`, and
    not the one that runs at the moment.
    """
    loop, running = task.get_loop(), asyncio.current_task()
    if running is not None:
        asyncio._leave_task(loop, running)
    asyncio._enter_task(loop, task)
    try:
        waited_for = context.run(work.send, None)
    except StopIteration:
        return None
    finally:
        asyncio._leave_task(loop, task)
        if running is not None:
            asyncio._enter_task(loop, running)
    return _rest(work, waited_for, context)


@coroutine
def _rest(work: Coroutine[Any, Any, None], waited_for: Any, context: Context) -> Generator[Any, Any, None]:
    while True:
        go_on: Callable[[Any], Any] = work.send
        try:
            result = yield waited_for
        except BaseException as exc:  # whatever ends the wait concerns `work`
            go_on, result = work.throw, exc
        try:
            waited_for = context.run(go_on, result)
        except StopIteration:
            return
