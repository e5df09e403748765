"""What a task can ask its client: forms, links, its roots. Each as a protocol request, as JSON.

How a question gets to a client, and its answer to the task, is not known here.
"""

import hashlib
from typing import Any, TypeVar

from mcp.server.elicitation import (
    AcceptedElicitation,
    AcceptedUrlElicitation,
    CancelledElicitation,
    DeclinedElicitation,
    ElicitationResult,
    UrlElicitationResult,
)
from mcp.server.session import ServerSession
from mcp_types import (
    ClientCapabilities,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    ListRootsRequest,
    ListRootsResult,
)
from pydantic import BaseModel

from taskmill.engine.context import TaskContext
from taskmill.server.context.forms import Form
from taskmill.server.protocol.questions import check_can_ask

__all__ = ["ask_form", "ask_form_now", "ask_link", "ask_roots"]

R = TypeVar("R", bound=BaseModel)


async def ask_form(
    task: TaskContext, client: ClientCapabilities | None, message: str, form: Form
) -> ElicitationResult[Any]:
    """Ask the client's user to fill in a form.

    Raises:
        MCPError: the client cannot show one (-32021).
        ValueError: the accepted answer does not fit the form.
    """
    params = ElicitRequestFormParams(message=message, requested_schema=form.schema)
    return _answer_of(form, await _ask(task, client, ElicitRequest(params=params), ElicitResult))


async def ask_form_now(session: ServerSession, request_id: str, message: str, form: Form) -> ElicitationResult[Any]:
    """Ask the user in a foreground call.

    Raises:
        MCPError: the client cannot be asked now.
        ValueError: the accepted answer does not fit the form.
    """
    answer = await session.elicit_form(message=message, requested_schema=form.schema, related_request_id=request_id)
    return _answer_of(form, answer)


async def ask_link(
    task: TaskContext, client: ClientCapabilities | None, message: str, url: str, elicitation_id: str | None
) -> UrlElicitationResult:
    """Ask the client's user to open a link.

    Raises:
        MCPError: the client cannot open one (-32021).
    """
    # The same for every attempt: the question must be known again.
    known = hashlib.sha256(f"{task.task_id}\0{url}\0{message}".encode()).hexdigest()[:32]
    params = ElicitRequestURLParams(message=message, url=url, elicitation_id=elicitation_id or known)
    answer = await _ask(task, client, ElicitRequest(params=params), ElicitResult)
    if answer.action == "accept":
        return AcceptedUrlElicitation()
    return DeclinedElicitation() if answer.action == "decline" else CancelledElicitation()


async def ask_roots(task: TaskContext, client: ClientCapabilities | None) -> ListRootsResult:
    """Ask the client for its roots.

    Raises:
        MCPError: the client has none (-32021).
    """
    return await _ask(task, client, ListRootsRequest(), ListRootsResult)


def _answer_of(form: Form, answer: ElicitResult) -> ElicitationResult[Any]:
    if answer.action == "accept":
        # Not validated again: what the author gets need not be a model.
        return AcceptedElicitation.model_construct(data=form.answer(answer.content))
    return DeclinedElicitation() if answer.action == "decline" else CancelledElicitation()


async def _ask(task: TaskContext, client: ClientCapabilities | None, request: BaseModel, result: type[R]) -> R:
    question = request.model_dump(by_alias=True, mode="json", exclude_none=True)
    check_can_ask(client, [question])
    (answer,) = await task.ask([question])
    return result.model_validate(answer, by_name=False)
