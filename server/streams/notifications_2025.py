"""Notifications that a session receives of its tasks: their status, and progress under the token of the original call.

Source: tasks 2025-11-25, "Task Notifications" and "Task Progress Notifications".
"""

from collections.abc import AsyncGenerator
from typing import Any

from taskmill.engine.events import LogMessage
from taskmill.engine.record import Progress
from taskmill.engine.status import Move
from taskmill.server.protocol.shapes_2025 import related_task, task_of
from taskmill.server.protocol.status_text import progress_text
from taskmill.server.streams.log_messages import is_wanted, message_notification
from taskmill.server.streams.paced_events import Due, paced_events
from taskmill.server.streams.progress import RisingProgress, progress_notification
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["task_notifications"]


async def task_notifications(
    store: TaskStore,
    principal: str,
    task_id: str,
    token: str | int | None,
    *,
    after: int = 0,
    lowest: str | None = None,
) -> AsyncGenerator[dict[str, Any], None]:
    """JSON-RPC notifications of a task's changes above event number `after`, until its end.

    `lowest`: what the task logs is sent from this level on, None = not at all.

    Raises:
        StoreUnavailable: the store did not answer.
    """
    rising = RisingProgress()
    has_unsent_status = False
    async with paced_events(store.tails, task_id, after=after) as steps:
        async for step in steps:
            if isinstance(step, Due):
                continue
            if isinstance(step, LogMessage):
                if is_wanted(step, lowest):
                    yield message_notification(step, meta=related_task(task_id))
                continue
            if step.move is Move.PROGRESS and token is not None:
                progress = Progress.of_facts(step.facts)
                figure, text = rising.next(progress.done), progress_text(progress)
                yield progress_notification(token, figure, progress, text, meta=related_task(task_id))
            else:
                has_unsent_status = True
            if has_unsent_status:
                view = await store.find(task_id, principal)
                if view is None:
                    return
                # If the task is further already, its status is sent after its later events: nothing overtakes.
                if view.record.seq <= step.seq:
                    has_unsent_status = False
                    yield {"jsonrpc": "2.0", "method": "notifications/tasks/status", "params": task_of(view)}
