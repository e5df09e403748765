"""HTTP for people and scripts: tasks as JSON, and their events as SSE. Their JSON is made in `shapes.py`."""

import re
from functools import partial
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from taskmill.engine.errors import BadArguments
from taskmill.engine.record import TaskView
from taskmill.engine.status import Status
from taskmill.engine.timing.start_time import start_ms
from taskmill.server.api.access import Access, Caller, Guard, caller_of
from taskmill.server.api.artifacts import artifact_routes
from taskmill.server.api.attempts import attempts_json
from taskmill.server.api.audit import audit_routes
from taskmill.server.api.errors import error_handlers
from taskmill.server.api.operation_routes import operation_routes
from taskmill.server.api.output import output_routes
from taskmill.server.api.requests import (
    RETRY_MS,
    body_of,
    cursor_of,
    filter_in_query,
    json_response,
    number_of,
    task_id_of,
)
from taskmill.server.api.shapes import EventFrames, event_json, summary, task_json, unreachable_json
from taskmill.server.auth.scopes import caller_record, require_scopes
from taskmill.server.http.redirects import redirect_without_host
from taskmill.server.streams.event_stream import TaskEventStream
from taskmill.server.tools.answers import take_answers
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.store.audit.records import Action, record
from taskmill.store.formats.paging import LONGEST_PAGE, MOST_PARTS, Page

__all__ = ["api_routes"]

log = structlog.get_logger()

_PAGE = 50
_HISTORY = 1000
"""Events that one reply shows at most; `?after=` goes on."""
_LONGEST_KEY = 200
_EMPTY = Page((), None)
_ATTEMPTS_FOR_OPERATORS = (
    "Errors of attempts are for operators: send the operator's token (TASKMILL_API_OPERATOR_TOKEN). Callers see those "
    "of their own tasks where TASKMILL_CALLER_ERRORS is text or traceback."
)
_OPERATORS_ONLY = "Dead letters are of all callers: send the operator's token (TASKMILL_API_OPERATOR_TOKEN)."


def api_routes(runtime: ServerRuntime, access: Access) -> list[BaseRoute]:
    """`/api/tasks`, `/api/artifacts` and what is below them, and `/api/dead-letters`."""
    api = _Api(runtime)
    routes = [
        Route("/tasks", api.list, methods=["GET"]),
        Route("/dead-letters", api.dead_letters, methods=["GET"]),
        Route("/tasks/{task_id}", api.show, methods=["GET"]),
        Route("/tasks/{task_id}/attempts", api.attempts, methods=["GET"]),
        Route("/tasks/{task_id}/events", api.events, methods=["GET"]),
        *operation_routes(runtime),
        *output_routes(runtime),
        *audit_routes(runtime),
        *artifact_routes(runtime),
        Route("/tasks/{task_id}/cancel", api.cancel, methods=["POST"]),
        Route("/tasks/{task_id}/rerun", api.rerun, methods=["POST"]),
        Route("/tasks/{task_id}/answers", api.answer, methods=["POST"]),
    ]
    app = redirect_without_host(Starlette(routes=routes, exception_handlers=error_handlers))
    mount = Mount("/api", Guard(app, access))
    # A path with an escaped line feed belongs to the API too, and gets its form of errors.
    mount.path_regex = re.compile(mount.path_regex.pattern, re.DOTALL)
    return [mount]


class _Api:
    def __init__(self, runtime: ServerRuntime) -> None:
        self._runtime = runtime
        self._frames = EventFrames()

    async def list(self, request: Request) -> Response:
        """A page of the caller's tasks, newest first."""
        caller = caller_of(request)
        if not self._runtime.keeps_tasks:
            return _page(_EMPTY, to_operator=caller.is_operator)
        page = await self._runtime.store.page(caller.list_owner, **_page_args(request))
        if caller.is_operator:
            record(Action.TASKS_LISTED)
        return _page(page, to_operator=caller.is_operator)

    async def dead_letters(self, request: Request) -> Response:
        """A page of the tasks that failed for good, newest first; for operators."""
        if not caller_of(request).is_operator:
            raise HTTPException(403, _OPERATORS_ONLY)
        if not self._runtime.keeps_tasks:
            return _page(_EMPTY, to_operator=True)
        page = await self._runtime.store.dead_letters(**_page_args(request))
        record(Action.TASKS_LISTED)
        return _page(page, to_operator=True)

    async def show(self, request: Request) -> Response:
        """One task in full, and its events if they are asked for."""
        caller, view = await self._look(request)
        shown = task_json(view, to_operator=caller.is_operator)
        if request.query_params.get("history", "0") not in ("", "0", "false"):
            after = number_of(request, "after", 0)
            events = await self._runtime.store.history(view.record.id, after=after, limit=_HISTORY)
            shown["events"] = [event_json(event, to_operator=caller.is_operator) for event in events]
        return json_response(shown)

    async def attempts(self, request: Request) -> Response:
        """The attempts of a task, and why those that failed did; for operators, and by a setting for its owner."""
        is_operator, store = caller_of(request).is_operator, self._runtime.store
        if not is_operator and self._runtime.settings.caller_errors == "none":
            raise HTTPException(403, _ATTEMPTS_FOR_OPERATORS)
        _, view = await self._look(request)
        errors = await store.attempt_errors(view.record.id) if is_operator else view.errors
        shown = attempts_json(await store.history(view.record.id), errors, to_operator=is_operator)
        return json_response({"attempts": shown})

    async def cancel(self, request: Request) -> Response:
        """End a task; a repeated request finds it cancelled."""
        caller, task_id = caller_of(request), task_id_of(request)
        reason = "operator" if caller.is_operator else "client"
        cancelled = await self._runtime.store.cancel(task_id, caller.principal, reason=reason)
        view = await self._runtime.store.read(task_id, caller.principal)
        if not cancelled and view.record.status is not Status.CANCELLED:
            raise HTTPException(409, f"The task has already ended: {view.record.status}.")
        return json_response(task_json(view, to_operator=caller.is_operator))

    async def rerun(self, request: Request) -> Response:
        """Run an ended task again, perhaps later; requests with the same `Idempotency-Key` make one task."""
        caller, task_id = caller_of(request), task_id_of(request)
        key = request.headers.get("idempotency-key")
        if key is not None and not 0 < len(key) <= _LONGEST_KEY:
            raise BadArguments(f"Idempotency-Key must have 1 to {_LONGEST_KEY} characters.")
        if not caller.is_operator:
            self._check_scopes((await self._runtime.store.read(task_id, caller.principal)).record.tool)
        asked, store = await body_of(request, ("delay", "not_before")), self._runtime.store
        start = start_ms(asked.get("delay"), asked.get("not_before"), await store.now_ms()) if asked else None
        limits = None if caller.is_operator else self._runtime.limits_of(caller.principal)
        view = await store.rerun(task_id, caller.principal, once=key, limits=limits, not_before_ms=start)
        log.info("task.rerun", task_id=view.record.id, rerun_of=task_id)
        return json_response(task_json(view, to_operator=caller.is_operator), status_code=201)

    async def answer(self, request: Request) -> Response:
        """Answer open questions of a task, as its owner or for it; the task afterwards."""
        caller, view = await self._look(request)
        answers = (await body_of(request, ("answers",), most=self._runtime.settings.max_arguments)).get("answers")
        if not isinstance(answers, dict) or not answers:
            raise BadArguments("answers must be an object: a result of the protocol by the key of each question.")
        if not view.questions:
            raise HTTPException(409, "The task asks nothing now.")
        if unknown := sorted(answers.keys() - view.questions.keys()):
            raise BadArguments(f"The task has no open question {unknown[0]!r}: its are {', '.join(view.questions)}.")
        task_id, owner = view.record.id, view.record.principal
        await take_answers(self._runtime.store, task_id, owner, answers)
        log.info("task.answered", task_id=task_id, by_operator=caller.is_operator)
        return json_response(task_json(await self._runtime.store.read(task_id, owner), to_operator=caller.is_operator))

    async def events(self, request: Request) -> Response:
        """The task's events from the one after `Last-Event-ID` or `?after=` to its last, as they happen."""
        caller, view = await self._look(request)
        record = view.record
        after = cursor_of(request)
        if after > record.seq:
            raise BadArguments(f"Event {after} of this task has not happened. Leave out Last-Event-ID to get all.")
        if record.is_terminal and after == record.seq:
            return Response(status_code=204)  # an EventSource does not reconnect after it
        frame = partial(self._frames.of, record.id, to_operator=caller.is_operator)
        return TaskEventStream(self._runtime.store.tails, record.id, frame, after=after, retry_ms=RETRY_MS)

    def _check_scopes(self, tool: str) -> None:
        """Return if the caller could call the tool now: it may have had more scopes when it called it."""
        if (entry := self._runtime.tools.find(tool)) is not None:
            require_scopes(tool, entry.policy, caller_record(over_http=True, visible=()))

    async def _look(self, request: Request) -> tuple[Caller, TaskView]:
        caller = caller_of(request)
        view = await self._runtime.store.read(task_id_of(request), caller.principal)
        caller.record_read(view.record.id, view.record.tool)
        return caller, view


def _page_args(request: Request) -> dict[str, Any]:
    """Which page of a list, as arguments of the store."""
    given = request.query_params
    limit = number_of(request, "limit", _PAGE, least=1, most=LONGEST_PAGE)
    return {"after": given.get("cursor"), "limit": limit, "where": filter_in_query(request), "reads": MOST_PARTS}


def _page(page: Page, *, to_operator: bool) -> Response:
    tasks = [summary(view, to_operator=to_operator) for view in page.views]
    return json_response({"tasks": tasks, "next_cursor": page.next, **unreachable_json(page.unreachable)})
