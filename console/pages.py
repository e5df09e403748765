"""The pages that show something, and their live parts. What changes something is in `actions.py`."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from taskmill.console.login import Logins
from taskmill.console.rendering import fragment, page
from taskmill.console.shown import artifact_links
from taskmill.console.tasks import ConsoleTasks
from taskmill.engine.errors import StoreUnavailable
from taskmill.engine.events import Event
from taskmill.engine.outcome import OutcomeKind
from taskmill.engine.status import Status
from taskmill.server.api.artifacts import artifact_response
from taskmill.server.api.attempts import attempts_json
from taskmill.server.api.requests import filter_in_query, task_id_of
from taskmill.server.api.shapes import event_json, summary, task_json
from taskmill.server.streams.event_stream import EventStream, TaskEventStream
from taskmill.store.audit.records import Action, record
from taskmill.store.formats.filters import FILTER_WORDS
from taskmill.store.formats.paging import MOST_PARTS, Page
from taskmill.store.tasks.tasks import OPERATOR

__all__ = ["Pages"]

_PAGE = 50
_EVENTS = 100
_LIVE_EVERY = 2.0
"""Seconds between two looks at the counts, for each page that is open."""
_PARTS = ("overview", "queues", "schedules", "workers")
_RECENT = 8
_WEBHOOKS = 200
"""Webhooks that the page shows."""


class Pages:
    """One console's."""

    def __init__(self, tasks: ConsoleTasks, logins: Logins) -> None:
        self._tasks = tasks
        self._logins = logins

    async def login(self, request: Request) -> Response:
        """The form, and what comes from it: an operator's token."""
        base = request.scope.get("root_path", "")
        back = request.query_params.get("next", "/")
        facts = {"possible": self._logins.are_possible, "ended": "ended" in request.query_params, "refused": False}
        if request.method in ("GET", "HEAD"):
            return page(request, "login", back=back, **facts)
        token = str((await request.form(max_files=0, max_fields=2)).get("token", ""))
        # Only a path of the console: an address that begins with two slashes is one of another site.
        is_path = back.startswith("/") and not back.startswith(("//", "/\\"))
        done = RedirectResponse(base + (back if is_path else "/"), 303)
        if await self._logins.log_in(token, request, done, self._tasks.store()):
            return done
        return page(request, "login", status=403, back=back, **{**facts, "refused": True})

    async def logout(self, request: Request) -> Response:
        """End the login of this browser."""
        done = RedirectResponse(f"{request.scope.get('root_path', '')}/login", 303)
        self._logins.log_out(request, done)
        return done

    async def overview(self, request: Request) -> Response:
        """Counts of all, queues, and the last failures."""
        return page(request, "overview", **await self._overview({}))

    async def tasks(self, request: Request) -> Response:
        """A page of all tasks, newest first, as the filter in the address wants them."""
        where, query = filter_in_query(request), request.query_params
        after = query.get("cursor")
        found = await self._tasks.store().page(OPERATOR, after=after, limit=_PAGE, where=where, reads=MOST_PARTS)
        record(Action.TASKS_LISTED)
        words = {name: query.get(name, "") for name in FILTER_WORDS}
        choices: dict[str, Any] = {
            "statuses": [one.value for one in Status],
            "outcomes": [one.value for one in OutcomeKind],
        }
        return page(request, "tasks", where=words, **choices, **_listed(found, words))

    async def dead_letters(self, request: Request) -> Response:
        """Tasks that broke for good and were not run again."""
        record(Action.TASKS_LISTED)
        found = await self._tasks.store().dead_letters(after=request.query_params.get("cursor"), limit=_PAGE)
        return page(request, "dead_letters", **_listed(found, {}))

    async def task(self, request: Request) -> Response:
        """One task, whole."""
        facts = await self._task(request)
        record(Action.TASK_READ, task=facts["task"]["id"], tool=facts["task"]["tool"])
        return page(request, "task", **facts)

    async def arguments(self, request: Request) -> Response:
        """What the tool of a task was called with, where the settings let operators see it."""
        store = self._tasks.store()
        task = (await store.read(task_id_of(request), OPERATOR)).record
        found = None
        if self._tasks.shows_arguments:
            record(Action.TASK_ARGUMENTS_READ, task=task.id, tool=task.tool)
            found = await store.arguments(task)
        return page(request, "arguments", task=task, arguments=found, is_permitted=self._tasks.shows_arguments)

    async def artifact(self, request: Request) -> Response:
        """A file of a task, to save: what a tool made is never shown as a page."""
        artifacts = self._tasks.store().artifacts
        artifact = await artifacts.find(task_id_of(request, "artifact_id"), OPERATOR)
        record(Action.TASK_READ, task=artifact.task_id, target=artifact.id)
        return await artifact_response(artifacts, artifact, request)

    async def task_part(self, request: Request) -> Response:
        """What of the page changes, by itself."""
        facts = {**await self._task(request), "base": request.scope["root_path"], "login": request.state.login}
        return HTMLResponse(fragment("task_part", facts), headers={"Cache-Control": "no-store"})

    async def task_live(self, request: Request) -> Response:
        """An event for each event of the task, for a page that then asks for its part again."""
        store = self._tasks.store()
        task = (await store.read(task_id_of(request), OPERATOR)).record
        if task.is_terminal:
            return Response(status_code=204)
        return TaskEventStream(store.tails, task.id, _number_frame, after=task.seq)

    async def queues(self, request: Request) -> Response:
        """Queues and tools, and what is paused."""
        return page(request, "queues", **await self._queues({}))

    async def workers(self, request: Request) -> Response:
        """The workers, and what each runs now."""
        return page(request, "workers", **await self._workers({}))

    async def schedules(self, request: Request) -> Response:
        """The tools that run by themselves: when, and what became of it."""
        return page(request, "schedules", **await self._schedules({}))

    async def webhooks(self, request: Request) -> Response:
        """Webhooks that are not delivered, of one state if the address names it."""
        state = request.query_params.get("state", "")
        rows = await self._tasks.operations().webhooks(state, _WEBHOOKS + 1)
        return page(request, "webhooks", state=state, webhooks=rows[:_WEBHOOKS], is_cut=len(rows) > _WEBHOOKS)

    async def settings(self, request: Request) -> Response:
        """With what settings this process runs; no secrets."""
        return page(request, "settings", settings=self._tasks.settings or {}, shards=self._tasks.store().shards)

    async def live(self, request: Request) -> Response:
        """The changing part of a page again and again, as long as it is open."""
        part = request.path_params["part"]
        if part not in _PARTS:
            raise HTTPException(404)
        shared = {"base": request.scope["root_path"], "login": request.state.login}
        return EventStream(self._parts(part, shared))

    async def _parts(self, part: str, shared: Mapping[str, Any]) -> AsyncIterator[bytes]:
        look = {
            "overview": self._overview,
            "queues": self._queues,
            "schedules": self._schedules,
            "workers": self._workers,
        }[part]
        facts: dict[str, Any] = {}
        while True:
            try:
                facts = await look(facts)
                html = fragment(f"{part}_part", {**facts, **shared})
            except StoreUnavailable:
                html = fragment("unavailable", {})
            yield f"data: {json.dumps(html)}\r\n\r\n".encode()
            await asyncio.sleep(_LIVE_EVERY)

    async def _task(self, request: Request) -> dict[str, Any]:
        store, task_id = self._tasks.store(), task_id_of(request)
        view = await store.read(task_id, OPERATOR)
        events = await store.history(task_id)
        attempts = attempts_json(events, await store.attempt_errors(task_id))
        shown = [event_json(event, to_operator=True) for event in events[-_EVENTS:]]
        task = task_json(view, to_operator=True)
        return {
            "task": task,
            "artifacts": artifact_links(task["result"]),
            "shows_arguments": self._tasks.shows_arguments,
            "attempts": attempts[::-1],
            "events": shown[::-1],
            "left_out": max(0, len(events) - _EVENTS),
            "can_rerun": view.record.is_terminal and view.record.outcome_kind != OutcomeKind.SUCCEEDED,
        }

    async def _overview(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """`before`: what it was the last time: rates are the differences."""
        store = self._tasks.store()
        queues = await self._tasks.operations().queues()
        stats = await store.stats(set())
        ended: dict[str, int] = {}
        for (outcome, _queue), count in stats.ended.items():
            ended[outcome] = ended.get(outcome, 0) + count
        at = time.monotonic()
        passed = at - before["at"] if before else 0.0
        rates = (
            {name: (count - before["ended"].get(name, 0)) / passed for name, count in ended.items()} if passed else {}
        )
        failed = await store.dead_letters(limit=_RECENT)
        return {
            "queues": queues,
            "stats": stats,
            "ended": {kind.value: ended.get(kind, 0) for kind in OutcomeKind},
            "rates": rates,
            "at": at,
            "running": sum(queue["by_status"].get("running", 0) for queue in queues),
            "waiting": sum(queue["waiting"] for queue in queues),
            "slots": sum(queue["slots"] for queue in queues),
            "workers": len(await self._tasks.operations().workers()),
            "failed": [summary(view, to_operator=True) for view in failed.views],
        }

    async def _queues(self, _before: Mapping[str, Any]) -> dict[str, Any]:
        operations = self._tasks.operations()
        facts = {"queues": await operations.queues(), "tools": await operations.tools()}
        return {**facts, "has_apps": self._tasks.app is None}

    async def _schedules(self, _before: Mapping[str, Any]) -> dict[str, Any]:
        return {"schedules": await self._tasks.operations().schedules()}

    async def _workers(self, _before: Mapping[str, Any]) -> dict[str, Any]:
        return {"workers": await self._tasks.operations().workers()}


def _number_frame(event: Event) -> bytes:
    return f"id: {event.seq}\r\ndata: {event.seq}\r\n\r\n".encode()


def _listed(found: Page, where: Mapping[str, str]) -> dict[str, Any]:
    wanted = {name: word for name, word in where.items() if word}
    return {
        "tasks": [summary(view, to_operator=True) for view in found.views],
        "query": urlencode(wanted),
        "next": urlencode({**wanted, "cursor": found.next}) if found.next else None,
        "unreachable": found.unreachable,
    }
