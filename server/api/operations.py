"""Queues, tools and workers as operators see them, in the API's JSON, and pauses: for the API and the command line.

With an app it is one server's; without, all that a Redis has. HTTP is in `operation_routes.py`.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from time import time
from typing import Any

from taskmill.engine.errors import BadArguments, NameUnknown, PolicyError
from taskmill.engine.record import TaskView
from taskmill.engine.timing.schedule import Schedule
from taskmill.server.protocol.shapes_2026 import iso, iso_or_none
from taskmill.store.formats.queue_names import app_of, author_queue, qualified_queue, shared_app
from taskmill.store.tasks.pauses import Pausable, Pause
from taskmill.store.tasks.schedules import KnownSchedule
from taskmill.store.tasks.stats import QueueCount, queues_of
from taskmill.store.tasks.tasks import OPERATOR, TaskStore
from taskmill.store.tasks.worker_orders import Order, WorkerOrders
from taskmill.store.webhooks.deliveries import MOST_LISTED, Delivery

__all__ = ["LONGEST_REASON", "Operations"]

Json = dict[str, Any]
LONGEST_REASON = 500
_MOST_SLOTS = 10_000
_WEBHOOK_STATES = (_WAITING, _GIVEN_UP) = ("waiting", "given_up")
_SHORTEST = 4
"""Characters of the beginning of a worker's name."""
_Name = tuple[str, str]
"""App without a stack, and the author's name."""


class Operations:
    """What operators see and do of the queues, tools and workers of one server, or of a whole Redis."""

    def __init__(
        self, store: TaskStore, app: str | None, tools: Mapping[str, str] | None = None, *, by: str = "operator"
    ) -> None:
        """`app`: None = all. `tools`: those known without workers, with their queues. `by`: who acts."""
        self._by = by
        self._store = store
        self._app = None if app is None else shared_app(app)
        self._tools = tools or {}

    async def queues(self) -> list[Json]:
        """Every queue: what waits, runs and is held there, its workers, and its pause."""
        pauses = await self._pauses(Pausable.QUEUE)
        workers = await self._live_workers()
        names = await self._queue_names(workers, pauses)
        stats = await self._store.stats({one for qualified in names.values() for one in qualified})
        counts = {count.name: count for count in stats.queues}
        return [
            _queue_json(name, [counts[one] for one in sorted(qualified)], workers, pauses.get(name))
            for name, qualified in sorted(names.items())
        ]

    async def tools(self) -> list[Json]:
        """Every task tool: its queue, where that is known, how many workers have it, and its pause."""
        pauses = await self._pauses(Pausable.TOOL)
        having: dict[_Name, int] = {(self._app or "", tool): 0 for tool in self._tools}
        for worker in await self._live_workers():
            for app in {shared_app(app_of(queue)) for queue in worker["queues"]}:
                for tool in worker["tools"]:
                    having[app, tool] = having.get((app, tool), 0) + 1
        return [
            {
                "name": tool,
                "app": app,
                "queue": self._tools.get(tool),
                "workers": having.get((app, tool), 0),
                "paused": _pause_json(pauses.get((app, tool))),
            }
            for app, tool in sorted(having.keys() | pauses.keys())
        ]

    async def schedules(self) -> list[Json]:
        """Every schedule that a worker has: when it fires next and fired last, how that ended, and its pause."""
        workers = await self._live_workers()
        known = [one for one in await self._store.schedules() if self._is_ours(one.name.partition("/")[0])]
        return await _schedule_rows(self._store, known, workers, self._tools)

    async def workers(self) -> list[Json]:
        """Every live worker: where it runs, since when, what it serves, what it runs now, and what is wanted of it."""
        workers = await self._live_workers()
        orders = await self._store.worker_orders(workers)
        return [_worker_json(one, order) for one, order in zip(workers, orders, strict=True)]

    async def drain(self, name: str, reason: str = "") -> Json:
        """Have a worker, or all workers of a host, take no tasks; those that run get the grace, then they go back.

        Raises:
            NameUnknown: there is no such worker; the message names those that there are.
            BadArguments: the reason is too long, or one of the workers cannot do that.
        """
        return await self._order("drained", name, 1, reason)

    async def undrain(self, name: str) -> Json:
        """Have a worker, or all workers of a host, take tasks again; raises like `drain`."""
        return await self._order("drained", name, None)

    async def set_slots(self, name: str, slots: object, reason: str = "") -> Json:
        """Have a worker, or each worker of a host, run so many tasks at a time; None = as it is configured.

        Raises:
            NameUnknown, BadArguments: see `drain`; or it is no number from 1 to 10,000.
        """
        is_number = isinstance(slots, int) and not isinstance(slots, bool) and 1 <= slots <= _MOST_SLOTS
        if slots is not None and not is_number:
            raise BadArguments(f"slots must be a whole number from 1 to {_MOST_SLOTS:,}, or null: as configured.")
        return await self._order("slots", name, slots if isinstance(slots, int) else None, reason)

    async def _order(self, aspect: str, name: str, value: int | None, reason: str = "") -> Json:
        _check_reason(reason)
        workers = await self._live_workers()
        target, meant = _meant_workers(name, workers)
        if stubborn := [one["worker"] for one in meant if not one.get("obeys")]:
            text = "is a stock arq worker, or of a version that does not do that: stop it with SIGTERM"
            raise BadArguments(f"{stubborn[0]} {text}.")
        if value is None and aspect == "drained" and target in [one["worker"] for one in meant]:
            (orders,) = await self._store.worker_orders([{**meant[0], "worker": ""}])
            value = 0 if orders.is_drained else None  # its host is drained, and this one is to go on all the same
        order = None if value is None else Order(value, self._by, int(time() * 1000), reason)
        await self._store.give_order(aspect, target, order, [str(one["worker"]) for one in meant])
        return {"name": target, "workers": [one["worker"] for one in meant], aspect: value}

    async def pause(self, kind: str, name: str, reason: str = "") -> Json:
        """Pause a queue or tool; what `queues` or `tools` then says of its pause.

        Raises:
            NameUnknown: there is no such one; the message names those that there are.
            BadArguments: the reason is too long.
        """
        _check_reason(reason)
        app, author_name = await self._resolved(Pausable(kind), name)
        pause = Pause(Pausable(kind), app, author_name, self._by, int(time() * 1000), reason)
        await self._store.pause(pause)
        return {"name": author_name, "app": app, "paused": _pause_json(pause)}

    async def resume(self, kind: str, name: str) -> Json:
        """End the pause of a queue or tool; one that is not paused stays as it is.

        Raises:
            NameUnknown: there is no such one; the message names those that there are.
        """
        app, author_name = await self._resolved(Pausable(kind), name)
        await self._store.resume(Pause(Pausable(kind), app, author_name))
        return {"name": author_name, "app": app, "paused": None}

    async def webhooks(self, state: str = "", limit: int = MOST_LISTED) -> list[Json]:
        """Webhooks that are not delivered, the task that ended last first; `state`: `waiting` or `given_up`, '' = all.

        Raises:
            BadArguments: there is no such state.
        """
        if state not in ("", *_WEBHOOK_STATES):
            raise BadArguments(f"state must be one of {', '.join(_WEBHOOK_STATES)}.")
        given_up = None if state == "" else state == _GIVEN_UP
        found = await self._store.undelivered(self._app, limit=limit, given_up=given_up)
        return [_webhook_json(one) for one in found]

    async def webhook(self, task_id: str) -> Json:
        """The webhook of a task; raises NameUnknown if there is none that is not delivered."""
        found = await self._store.delivery(task_id)
        if found is None or self._app not in (None, found.app):
            raise _no_webhook(task_id)
        return _webhook_json(found)

    async def retry_webhook(self, task_id: str) -> Json:
        """Try the webhook of a task again now; raises NameUnknown if there is none that is not delivered."""
        await self.webhook(task_id)
        if not await self._store.retry_webhook(task_id):
            raise _no_webhook(task_id)
        return {"name": task_id, "retried": 1}

    async def retry_webhooks(self) -> Json:
        """Try those that were given up again now, a thousand at most; how many these are."""
        found = await self._store.undelivered(self._app, limit=MOST_LISTED, given_up=True)
        retried = [one for one in found if await self._store.retry_webhook(one.task_id)]
        return {"name": "all", "retried": len(retried)}

    async def _resolved(self, kind: Pausable, name: str) -> _Name:
        rows = await (self.queues() if kind is Pausable.QUEUE else self.tools())
        known = {(row["app"], row["name"]) for row in rows}
        app, slash, author_name = name.rpartition("/") if kind is Pausable.QUEUE else name.partition("/")
        if self._app is None and slash and author_name:
            return shared_app(app), author_name  # its app may start later
        found = sorted(one for one in known if one[1] == name)
        if len(found) == 1:
            return found[0]
        shown = ", ".join(qualified_queue(app, one) for app, one in found or sorted(known)) or "none"
        if found:
            raise NameUnknown(f"Several servers have a {kind} {name}. Name one of them: {shown}.")
        raise NameUnknown(f"There is no {kind} {name}. Known: {shown}.")

    async def _pauses(self, kind: Pausable) -> dict[_Name, Pause]:
        return {
            (pause.app, pause.name): pause
            for pause in await self._store.pauses()
            if pause.kind is kind and self._is_ours(pause.app)
        }

    async def _live_workers(self) -> list[Json]:
        """Reports of the workers, each with those of its queues that are ours."""
        reports = [
            {**one, "queues": [queue for queue in queues_of(one) if self._is_ours(app_of(queue))]}
            for one in await self._store.workers()
        ]
        return [one for one in reports if one["queues"]]

    async def _queue_names(self, workers: Sequence[Json], pauses: Iterable[_Name]) -> dict[_Name, set[str]]:
        """Every queue, with its names in Redis: one for each stack that has it."""
        names = {(app, queue): {qualified_queue(app, queue)} for app, queue in pauses}
        known = {queue for worker in workers for queue in worker["queues"]}
        if self._app is None:
            known |= await self._store.known_queues()
        else:
            known |= {qualified_queue(self._app, queue) for queue in self._tools.values()}
        for queue in known:
            name = shared_app(app_of(queue)), author_queue(queue)
            names.setdefault(name, set()).add(queue)
        return names

    def _is_ours(self, app: str) -> bool:
        return self._app is None or shared_app(app) == self._app


def _check_reason(reason: str) -> None:
    if len(reason) > LONGEST_REASON:
        raise BadArguments(f"reason must have {LONGEST_REASON} characters at most.")


def _meant_workers(name: str, workers: Sequence[Json]) -> tuple[str, list[Json]]:
    """The whole name of a worker, given by it or by its beginning, or of a host; and the workers that it stands for."""
    for meant in (
        [one for one in workers if one["worker"] == name],
        [one for one in workers if one.get("host") == name],
        [one for one in workers if len(name) >= _SHORTEST and str(one["worker"]).startswith(name)],
    ):
        if meant and meant[0].get("host") == name:
            return name, meant
        if len(meant) == 1:
            return str(meant[0]["worker"]), meant
    shown = ", ".join(str(one["worker"]) for one in workers) or "none"
    raise NameUnknown(f"There is no one worker and no host {name}. Live workers: {shown}.")


def _queue_json(name: _Name, counts: Sequence[QueueCount], workers: Sequence[Json], pause: Pause | None) -> Json:
    qualified = {count.name for count in counts}
    serving = [worker for worker in workers if qualified & set(worker["queues"])]
    by_status: dict[str, int] = {}
    for count in counts:
        for status, number in count.by_status.items():
            by_status[status] = by_status.get(status, 0) + number
    return {
        "name": name[1],
        "app": name[0],
        "open": sum(count.depth for count in counts),
        "waiting": sum(count.due for count in counts),
        "held": sum(count.held for count in counts),
        "oldest_seconds": max(count.oldest_ms for count in counts) / 1000,
        "by_status": by_status,
        "workers": len(serving),
        "slots": sum(worker["concurrency"] for worker in serving),
        "busy": sum(worker["running"] for worker in serving),
        "paused": _pause_json(pause),
    }


def _worker_json(report: Json, orders: WorkerOrders) -> Json:
    """What a worker reports of itself; what an older version does not report is null."""
    mean = report.get("mean_seconds")
    return {
        "name": report["worker"],
        "host": report.get("host"),
        "pid": report.get("pid"),
        "version": report.get("version"),
        "since": iso(int(report["since"]) * 1000) if "since" in report else None,
        "memory": report.get("memory"),
        "app": shared_app(app_of(report["queues"][0])),
        "queues": sorted({author_queue(queue) for queue in report["queues"]}),
        "state": report.get("state") or ("leaving" if report.get("leaving") else "working"),
        "slots": report["concurrency"],
        "configured": report.get("configured"),
        "drained": _order_json(orders.drained) if orders.is_drained else None,
        "resized": _order_json(orders.slots),
        "running": report["running"],
        "ended": report.get("settled"),
        "mean_seconds": mean,
        "tools": report["tools"],
        "tasks": [
            {"id": task["id"], "tool": task["tool"], "since": iso(task["since_ms"])} for task in report.get("tasks", ())
        ],
        "shard": report.get("shard"),
    }


def _no_webhook(task_id: str) -> NameUnknown:
    return NameUnknown(f"There is no undelivered webhook of task {task_id}. See: taskmill webhooks list.")


def _webhook_json(delivery: Delivery) -> Json:
    record = delivery.view.record
    return {
        "id": record.id,
        "tool": record.tool,
        "app": delivery.app,
        "queue": author_queue(record.queue),
        "outcome": record.outcome_kind,
        "ended_at": iso_or_none(record.ended_ms),
        "state": _GIVEN_UP if delivery.is_given_up else _WAITING,
        "tries": delivery.tries,
        "error": delivery.error,
        "tried_at": iso_or_none(delivery.tried_ms),
        "next_at": None if delivery.is_given_up else iso_or_none(delivery.next_ms),
    }


def _order_json(order: Order | None) -> Json | None:
    return None if order is None else {"by": order.by, "at": iso(order.at_ms), "reason": order.reason}


def _pause_json(pause: Pause | None) -> Json | None:
    return None if pause is None else {"by": pause.by, "at": iso(pause.at_ms), "reason": pause.reason}


async def _schedule_rows(
    store: TaskStore, known: Sequence[KnownSchedule], workers: Sequence[Mapping[str, Any]], queues: Mapping[str, str]
) -> list[Json]:
    """A row for each schedule; none for one that the live workers of its app do not have any more.

    `workers`: their reports; `queues`: of the tools that are known without workers.
    """
    now_ms, pauses = await store.now_ms(), await store.pauses()
    apps = [(shared_app(app_of(worker["queues"][0])), worker.get("scheduled", ())) for worker in workers]
    rows = []
    for one, latest in zip(known, await _latest_tasks(store, known), strict=True):
        app, _, tool = one.name.partition("/")
        having = [tool in scheduled for its_app, scheduled in apps if its_app == app]
        schedule = _schedule_of(one)
        if schedule is None or (having and not any(having)):
            continue
        queue = queues.get(tool) or (author_queue(latest.record.queue) if latest is not None else "")
        rows.append(
            {
                "name": tool,
                "app": app,
                "schedule": schedule.text,
                "words": schedule.words,
                "timezone": schedule.timezone,
                "missed": schedule.missed,
                "missed_at": iso_or_none(schedule.missed_at(one.seen_ms, now_ms)),
                "next_at": iso_or_none(schedule.next_after(now_ms)),
                "last_at": iso_or_none(one.last_ms),
                "last_task": one.last_task,
                "last_outcome": None if latest is None else _outcome(latest),
                "workers": sum(having),
                "paused": _pause_of(pauses, app, tool, queue),
            }
        )
    return rows


async def _latest_tasks(store: TaskStore, known: Sequence[KnownSchedule]) -> list[TaskView | None]:
    """The task of the latest firing of each; None = it has not fired, or that has expired."""

    async def latest(one: KnownSchedule) -> TaskView | None:
        return None if one.last_task is None else await store.find(one.last_task, OPERATOR)

    return await asyncio.gather(*map(latest, known))


def _schedule_of(known: KnownSchedule) -> Schedule | None:
    """None: it is of another version."""
    try:
        return Schedule.of_json(known.schedule)
    except (PolicyError, ValueError, LookupError, TypeError):
        return None


def _outcome(view: TaskView) -> str:
    """How a task ended; its state while it is open."""
    return str(view.record.outcome_kind or view.record.status)


def _pause_of(pauses: Sequence[Pause], app: str, tool: str, queue: str) -> str | None:
    """What is paused, so that the schedule makes no tasks."""
    meant = {(Pausable.TOOL, app, tool), (Pausable.QUEUE, app, queue)}
    return next((str(pause.kind) for pause in pauses if (pause.kind, pause.app, pause.name) in meant), None)
