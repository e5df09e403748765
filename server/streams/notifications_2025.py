"""What a session is told of its tasks without asking: status notifications, and progress under the original token.

Source: tasks 2025-11-25, "Task Notifications" and "Task Progress Notifications".
"""

from collections.abc import AsyncGenerator
from typing import Any

from taskmill.engine.events import Event
from taskmill.engine.record import Progress
from taskmill.engine.status import Move
from taskmill.server.protocol.shapes_2025 import related_task, task_of
from taskmill.server.protocol.status_text import progress_text
from taskmill.server.streams.paced_events import Meter, Pause, follow
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["notices"]

Message = dict[str, Any]


async def notices(
    store: TaskStore, principal: str, task_id: str, token: str | int | None, *, after: int = 0
) -> AsyncGenerator[Message, None]:
    """JSON-RPC notifications of a task's changes above event number `after`, until its end.

    Raises:
        StoreUnavailable: the store did not answer.
    """
    meter = Meter()
    is_owed = False
    async with follow(store.tails, task_id, after=after) as steps:
        async for step in steps:
            if isinstance(step, Pause):
                continue
            if step.move is Move.PROGRESS and token is not None:
                yield _progress(task_id, token, step, meter)
            else:
                is_owed = True
            if is_owed:
                view = await store.find(task_id, principal)
                if view is None:
                    return
                # A task that is further already is shown once its later events have been told: nothing overtakes.
                if view.record.seq <= step.seq:
                    is_owed = False
                    yield {"jsonrpc": "2.0", "method": "notifications/tasks/status", "params": task_of(view)}


def _progress(task_id: str, token: str | int, event: Event, meter: Meter) -> Message:
    progress = Progress(event.facts.get("done"), event.facts.get("total"), event.facts.get("message"))
    text = progress_text(progress)
    params: Message = {
        "progressToken": token,
        "progress": meter.next(progress.done),
        **({} if progress.total is None else {"total": progress.total}),
        **({"message": text} if text else {}),
        "_meta": related_task(task_id),
    }
    return {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
