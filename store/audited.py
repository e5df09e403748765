"""A store whose moves leave a trail: what callers and operators do to tasks, and tasks that are not theirs.

Every way into the store passes here, of whatever protocol; who acts is known to `store/audit/records.py`.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

from taskmill.engine.errors import CallerError
from taskmill.engine.principal import PrincipalLimits
from taskmill.engine.record import NewTask, TaskView
from taskmill.store.audit.records import Action, Outcome, record, record_refusal_of
from taskmill.store.audit.trail import AuditTrail
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.pauses import Pause
from taskmill.store.tasks.tasks import TaskStore
from taskmill.store.tasks.worker_orders import Order

__all__ = ["audited"]


@asynccontextmanager
async def audited(
    store: TaskStore, settings: StoreSettings, *, also_redis: bool = False
) -> AsyncIterator[tuple[TaskStore, AuditTrail | None]]:
    """The store, and the trail that it leaves; the store as it is, and None, where the settings want no trail.

    `also_redis`: leave one in Redis whatever the settings say.

    Raises:
        SettingsError: a file of the trail cannot be opened.
    """
    if not settings.audit and not also_redis:
        yield store, None
        return
    async with AuditTrail(settings, store.audit, also_redis=also_redis) as trail:
        yield cast(TaskStore, _AuditedStore(store)), trail


class _AuditedStore:
    """The store, with its moves recorded; all else is the store's own."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def create(self, task: NewTask) -> TaskView:
        """See `TaskStore.create`."""
        with _refusals(tool=task.tool):
            view = await self._store.create(task)
        action = Action.TASK_CREATED if view.record.id == task.id else Action.TASK_ATTACHED
        record(action, task=view.record.id, tool=task.tool)
        return view

    async def read(self, task_id: str, principal: str) -> TaskView:
        """See `TaskStore.read`."""
        with _refusals():
            return await self._store.read(task_id, principal)

    async def cancel(self, task_id: str, principal: str, *, reason: str = "cancelled") -> bool:
        """See `TaskStore.cancel`."""
        with _refusals():
            cancelled = await self._store.cancel(task_id, principal, reason=reason)
        record(Action.TASK_CANCELLED, outcome=_changed(cancelled), task=task_id, reason=reason)
        return cancelled

    async def answer(self, task_id: str, principal: str, answers: Mapping[str, Any]) -> int:
        """See `TaskStore.answer`."""
        with _refusals():
            taken = await self._store.answer(task_id, principal, answers)
        record(Action.TASK_ANSWERED, outcome=_changed(taken > 0), task=task_id)
        return taken

    async def rerun(
        self,
        task_id: str,
        principal: str,
        *,
        once: str | None = None,
        limits: PrincipalLimits | None = None,
        not_before_ms: int | None = None,
    ) -> TaskView:
        """See `TaskStore.rerun`."""
        with _refusals():
            view = await self._store.rerun(task_id, principal, once=once, limits=limits, not_before_ms=not_before_ms)
        record(Action.TASK_RERUN, task=view.record.id, tool=view.record.tool, target=task_id)
        return view

    async def pause(self, pause: Pause) -> bool:
        """See `TaskStore.pause`."""
        changed = await self._store.pause(pause)
        name = f"{pause.kind} {pause.app}/{pause.name}"
        record(Action.QUEUE_PAUSED, outcome=_changed(changed), target=name, reason=pause.reason or None)
        return changed

    async def resume(self, pause: Pause) -> bool:
        """See `TaskStore.resume`."""
        changed = await self._store.resume(pause)
        record(Action.QUEUE_RESUMED, outcome=_changed(changed), target=f"{pause.kind} {pause.app}/{pause.name}")
        return changed

    async def retry_webhook(self, task_id: str) -> bool:
        """See `TaskStore.retry_webhook`."""
        changed = await self._store.retry_webhook(task_id)
        record(Action.WEBHOOK_RETRIED, outcome=_changed(changed), task=task_id)
        return changed

    async def give_order(self, aspect: str, target: str, order: Order | None, workers: Sequence[str]) -> None:
        """See `TaskStore.give_order`."""
        await self._store.give_order(aspect, target, order, workers)
        is_drain = aspect == "drained" and order is not None and bool(order.value)
        action = Action.WORKER_DRAINED if is_drain else Action.WORKER_CHANGED
        value = "taken back" if order is None else str(order.value)
        why = order.reason if order is not None and order.reason else None
        record(action, target=f"worker {target}" if is_drain else f"worker {target}: {aspect} {value}", reason=why)


def _changed(changed: bool) -> Outcome:
    return Outcome.OK if changed else Outcome.UNCHANGED


@contextmanager
def _refusals(tool: str | None = None) -> Iterator[None]:
    try:
        yield
    except CallerError as exc:
        record_refusal_of(exc, tool=tool)
        raise
