"""Tasks in a Redis, as its operator sees them: without a server, in the JSON of the HTTP API."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from taskmill.cli.errors import CommandFailed, Failure
from taskmill.cli.tasks.actor import CommandActor, command_user
from taskmill.cli.tasks.source import Json, OperationsSource, TaskSource
from taskmill.engine.status import Status
from taskmill.engine.timing.start_time import start_ms
from taskmill.server.api.attempts import attempts_json
from taskmill.server.api.bulk import Bulk
from taskmill.server.api.operations import Operations
from taskmill.server.api.shapes import event_json, summary, task_json, unreachable_json
from taskmill.store.audit.records import Action, acting_as, record
from taskmill.store.audit.stream import AuditFilter, since_of
from taskmill.store.audited import audited
from taskmill.store.formats.filters import filter_of
from taskmill.store.formats.paging import LONGEST_PAGE, Page
from taskmill.store.opening import open_store
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.tasks import OPERATOR, TaskStore

__all__ = ["run_over_redis"]


async def run_over_redis(work: Callable[[TaskSource], Awaitable[int]], settings: StoreSettings) -> int:
    """Do the work on the Redis of these settings.

    Raises:
        StoreUnavailable, RedisUnfit, SettingsError: see `open_store`.
    """
    async with open_store(settings) as opened:
        # Where servers keep a trail in this Redis, commands leave one too, whatever variables their shell has.
        is_kept = await opened.audit.exists()
        async with audited(opened, settings, also_redis=is_kept) as (store, trail):
            with acting_as(None if trail is None else CommandActor(trail)):
                return await work(_RedisSource(store, settings))


class _RedisSource:
    def __init__(self, store: TaskStore, settings: StoreSettings) -> None:
        self._store = store
        self.operations: OperationsSource = Operations(store, settings.app, by=command_user())

    async def list(self, where: Mapping[str, str], *, limit: int, cursor: str | None) -> Json:
        record(Action.TASKS_LISTED)
        return await _pages(partial(self._store.page, OPERATOR, where=filter_of(where)), limit, cursor)

    async def dead_letters(self, where: Mapping[str, str], *, limit: int, cursor: str | None) -> Json:
        record(Action.TASKS_LISTED)
        return await _pages(partial(self._store.dead_letters, where=filter_of(where)), limit, cursor)

    async def show(self, task_id: str, *, history: bool = False) -> Json:
        view = await self._store.read(task_id, OPERATOR)
        record(Action.TASK_READ, task=task_id, tool=view.record.tool)
        task = task_json(view, to_operator=True)
        if history:
            events = await self._store.history(task_id)
            task["events"] = [event_json(event, to_operator=True) for event in events]
        return task

    async def attempts(self, task_id: str) -> Sequence[Json]:
        return attempts_json(await self._store.history(task_id), await self._store.attempt_errors(task_id))

    async def cancel(self, task_id: str) -> Json:
        cancelled = await self._store.cancel(task_id, OPERATOR, reason="operator")
        view = await self._store.read(task_id, OPERATOR)
        if not cancelled and view.record.status is not Status.CANCELLED:
            raise CommandFailed(Failure(f"The task has already ended: {view.record.status}.", 1))
        return task_json(view, to_operator=True)

    async def answer(self, task_id: str, answers: Json) -> None:
        # An operator may read every task; an answer is stored as its owner's.
        owner = (await self._store.read(task_id, OPERATOR)).record.principal
        # Only this needs the protocol's types, which take long to import.
        from taskmill.server.tools.answers import take_answers

        await take_answers(self._store, task_id, owner, answers)

    async def count_for_bulk(self, action: str, where: Mapping[str, str], *, every: bool) -> Json:
        return await Bulk(self._store).count(action, where, every=every)

    async def run_bulk(self, token: str) -> Json:
        return await Bulk(self._store).run(token)

    async def rerun(self, task_id: str, *, key: str | None, start: Mapping[str, Any]) -> Json:
        at = start_ms(start.get("delay"), start.get("not_before"), await self._store.now_ms())
        return task_json(await self._store.rerun(task_id, OPERATOR, once=key, not_before_ms=at), to_operator=True)

    async def audit(
        self, wanted: Mapping[str, str], *, limit: int, cursor: str | None = None, after: str | None = None
    ) -> Json:
        since = wanted.get("since")
        filtered = AuditFilter(
            **{name: value for name, value in wanted.items() if name != "since"},
            since_ms=None if since is None else since_of(since),
        )
        if after is None:
            record(Action.AUDIT_READ)
        page = await self._store.audit.page(filtered, limit=limit, before=cursor, after=after)
        return {"records": list(page.records), "next_cursor": page.next}

    async def events(self, task_id: str, *, after: int) -> AsyncIterator[Json]:
        async with self._store.tails.follow(task_id, after=after) as events:
            async for event in events:
                yield event_json(event, to_operator=True)


async def _pages(page_of: Callable[..., Awaitable[Page]], limit: int, cursor: str | None) -> Json:
    tasks: list[Json] = []
    while True:
        page = await page_of(after=cursor, limit=min(LONGEST_PAGE, limit - len(tasks)))
        tasks += [summary(view, to_operator=True) for view in page.views]
        cursor = page.next
        if cursor is None or len(tasks) >= limit:
            return {"tasks": tasks, "next_cursor": cursor, **unreachable_json(page.unreachable)}
