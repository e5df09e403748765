"""A task's questions as requests to a client that can be asked in mid-call (revisions before 2026).

The id of such a request names the call and the question, so that any replica can take the reply.
"""

from collections.abc import Mapping
from typing import Any

from mcp_types import INVALID_PARAMS, ClientCapabilities

from taskmill.engine.errors import BadArguments, TaskNotFound
from taskmill.server.protocol.questions import can_ask
from taskmill.server.protocol.shapes_2025 import related_task
from taskmill.server.tools.answers import checked_answers
from taskmill.store.sessions.open_calls import CallKind, OpenCall
from taskmill.store.sessions.sessions import Session
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["can_be_asked", "request_of", "take_refusal", "take_reply"]

_ELICITATION_SINCE = "2025-06-18"


def can_be_asked(session: Session, question: Mapping[str, Any]) -> bool:
    """Whether the session's client declared what the question needs."""
    if question["method"] == "elicitation/create" and session.version < _ELICITATION_SINCE:
        return False
    declared = session.client.get("capabilities", {})
    return can_ask(ClientCapabilities.model_validate(declared, by_name=False), question)


def request_of(call: OpenCall, key: str, question: Mapping[str, Any]) -> dict[str, Any]:
    """The question as a JSON-RPC request on the stream of `call`."""
    params = dict(question.get("params", {}))
    if call.kind is CallKind.RESULT and call.task_id is not None:
        params["_meta"] = {**params.get("_meta", {}), **related_task(call.task_id)}
    request: dict[str, Any] = {"jsonrpc": "2.0", "id": f"{call.id}:{key}", "method": question["method"]}
    return {**request, "params": params} if params else request


async def take_reply(store: TaskStore, session: Session, request_id: str, reply: Mapping[str, Any]) -> None:
    """Take the client's reply to any request of this server: an answer for a task, or for a call that waits for it.

    Raises:
        BadArguments: the answer does not fit; the question is still open.
    """
    call_id, colon, key = request_id.partition(":")
    call = await store.open_calls.find(session.id, call_id) if colon else None
    if call is None or call.task_id is None:
        await store.sessions.put_reply(session.id, request_id, reply)
        return
    try:
        view = await store.read(call.task_id, session.principal)
        question = view.questions.get(key)
        if question is None:
            return  # it was answered before, here or by another client
        if "error" in reply:
            await take_refusal(store, call.task_id, session.principal, key, question)
        else:
            await store.answer(call.task_id, session.principal, checked_answers(view.questions, {key: reply["result"]}))
    except TaskNotFound:
        return
    except BadArguments as exc:
        raise BadArguments(str(exc), code=INVALID_PARAMS) from exc


async def take_refusal(store: TaskStore, task_id: str, principal: str, key: str, question: Mapping[str, Any]) -> None:
    """Take a client's error instead of an answer: a refused form or link is a cancelled one, any other ends the task.

    Raises:
        TaskNotFound: the task has expired.
    """
    if question["method"] == "elicitation/create":
        await store.answer(task_id, principal, {key: {"action": "cancel"}})
    else:
        await store.cancel(task_id, principal, reason="refused")
