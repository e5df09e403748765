"""What an operator can do on the pages. Each action is asked for again before it is done, and is logged."""

from typing import Any
from urllib.parse import urlencode

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from taskmill.console.answers import answer_of
from taskmill.console.rendering import page
from taskmill.console.tasks import ConsoleTasks
from taskmill.engine.errors import BadArguments
from taskmill.server.api.bulk import Bulk, BulkAction
from taskmill.server.api.operations import LONGEST_REASON
from taskmill.server.api.requests import filter_in_query, task_id_of
from taskmill.server.api.shapes import task_json
from taskmill.server.tools.answers import take_answers
from taskmill.store.tasks.pauses import Pausable
from taskmill.store.tasks.tasks import OPERATOR
from taskmill.store.webhooks.deliveries import MOST_LISTED

__all__ = ["Actions"]

log = structlog.get_logger()
_PAGES = 10
"""Hundreds of tasks that one request changes; a button goes on."""
_FAILED_SHOWN = 100
_OF_WORKERS = ("drain", "resume", "slots")
_KINDS = {"queues": Pausable.QUEUE, "tools": Pausable.TOOL}


class Actions:
    """One console's."""

    def __init__(self, tasks: ConsoleTasks) -> None:
        self._tasks = tasks

    async def one(self, request: Request) -> Response:
        """Cancel a task, or run it again: GET asks, POST does."""
        action, store, task_id = request.path_params["action"], self._tasks.store(), task_id_of(request)
        if action not in list(BulkAction):
            raise HTTPException(404)
        view = await store.read(task_id, OPERATOR)
        if request.method != "POST":
            return page(request, "confirm_one", action=action, task=task_json(view, to_operator=True))
        base = request.scope["root_path"]
        log.info("console.action", action=action, task_id=task_id)
        if action == "cancel":
            done = "cancelled" if await store.cancel(task_id, OPERATOR, reason="operator") else "ended"
            return RedirectResponse(f"{base}/tasks/{task_id}?done={done}", 303)
        again = (await store.rerun(task_id, OPERATOR)).record.id
        return RedirectResponse(f"{base}/tasks/{again}?done=rerun", 303)

    async def answer(self, request: Request) -> Response:
        """Answer an open question of a task with the fields of its form."""
        store, task_id = self._tasks.store(), task_id_of(request)
        view = await store.read(task_id, OPERATOR)
        form = await request.form(max_files=0, max_fields=200)
        key = str(form.get("key", ""))
        if key not in view.questions:
            raise BadArguments("This question is not open any more: it was answered, or the task has ended.")
        given = {name: str(value) for name, value in form.items() if isinstance(value, str)}
        answers = {key: answer_of(view.questions[key], given)}
        log.info("console.action", action="answer", task_id=task_id)
        await take_answers(store, task_id, view.record.principal, answers)
        return RedirectResponse(f"{request.scope['root_path']}/tasks/{task_id}?done=answered", 303)

    async def bulk(self, request: Request) -> Response:
        """Cancel or rerun what a filter finds: GET shows how many, POST does it to these and to no newer ones."""
        action, bulk, where = request.path_params["action"], Bulk(self._tasks.store()), filter_in_query(request)
        if action not in list(BulkAction):
            raise HTTPException(404)
        words = where.as_words()
        facts: dict[str, Any] = {"action": action, "where": words, "query": urlencode(words), "is_all": where.is_empty}
        if request.method != "POST":
            counted = await bulk.count(action, words, every=True)
            return page(request, "confirm_bulk", count=counted["count"], token=counted["token"], **facts)
        form = await request.form(max_files=0, max_fields=5)
        if where.is_empty and form.get("all") != "yes":
            raise BadArguments("Nothing was done: it was not confirmed that all tasks are meant.")
        log.info("console.action", action=f"{action} by filter", where=words)
        token: str | None = str(form.get("token", ""))
        done = 0
        failed: list[dict[str, Any]] = []
        for _ in range(_PAGES):
            part = await bulk.run(token or "")
            done, token = done + part["done"], part["token"]
            failed += part["failed"]
            if token is None:
                break
        return page(request, "bulk_done", count=done, failed=failed[:_FAILED_SHOWN], token=token, **facts)

    async def pause(self, request: Request) -> Response:
        """Pause a queue or tool: GET asks, POST does."""
        kind, name = _pausable(request)
        if request.method != "POST":
            return page(request, "confirm_pause", kind=kind.value, name=name, most=LONGEST_REASON)
        reason = str((await request.form(max_files=0, max_fields=3)).get("reason", ""))
        log.info("console.action", action="pause", kind=kind.value, name=name)
        await self._tasks.operations(request.state.login.name).pause(kind, name, reason)
        return RedirectResponse(f"{request.scope['root_path']}/queues?done=paused", 303)

    async def worker(self, request: Request) -> Response:
        """Drain a worker, end that, or change how many slots it has: GET asks, POST does."""
        action, name = request.path_params["action"], request.path_params["name"]
        if action not in _OF_WORKERS:
            raise HTTPException(404)
        if request.method != "POST":
            return page(request, "confirm_worker", action=action, name=name, most=LONGEST_REASON)
        form = await request.form(max_files=0, max_fields=3)
        reason, operations = str(form.get("reason", "")), self._tasks.operations(request.state.login.name)
        log.info("console.action", action=action, worker=name)
        if action == "drain":
            await operations.drain(name, reason)
        elif action == "resume":
            await operations.undrain(name)
        else:
            await operations.set_slots(name, _number(str(form.get("slots", ""))), reason)
        return RedirectResponse(f"{request.scope['root_path']}/workers?done={action}", 303)

    async def retry_webhook(self, request: Request) -> Response:
        """Try the webhook of a task again now: GET asks, POST does."""
        task_id, operations = task_id_of(request), self._tasks.operations(request.state.login.name)
        if request.method != "POST":
            return page(request, "confirm_webhook", webhook=await operations.webhook(task_id))
        log.info("console.action", action="retry webhook", task_id=task_id)
        await operations.retry_webhook(task_id)
        return RedirectResponse(f"{request.scope['root_path']}/webhooks?done=retried", 303)

    async def retry_webhooks(self, request: Request) -> Response:
        """Try the webhooks again that were given up: GET shows how many, POST does it."""
        operations = self._tasks.operations(request.state.login.name)
        if request.method != "POST":
            count = len(await operations.webhooks("given_up"))
            return page(request, "confirm_webhook", webhook=None, count=count, most=MOST_LISTED)
        log.info("console.action", action="retry webhooks")
        await operations.retry_webhooks()
        return RedirectResponse(f"{request.scope['root_path']}/webhooks?done=retried", 303)

    async def resume(self, request: Request) -> Response:
        """Start tasks of a queue or tool again."""
        kind, name = _pausable(request)
        log.info("console.action", action="resume", kind=kind.value, name=name)
        await self._tasks.operations().resume(kind, name)
        return RedirectResponse(f"{request.scope['root_path']}/queues?done=resumed", 303)


def _number(text: str) -> object:
    """What was typed as a number, None for nothing; what is none is left for the check of numbers."""
    return int(text) if text.strip().isdecimal() else text.strip() or None


def _pausable(request: Request) -> tuple[Pausable, str]:
    if (kind := _KINDS.get(request.path_params["kind"])) is None:
        raise HTTPException(404)
    return kind, str(request.path_params["name"])
