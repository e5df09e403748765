"""Checks answers against their questions. An answer whose key is unknown is dropped before its value is read."""

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from mcp_types import ElicitResult
from pydantic import ValidationError

from taskmill.engine.errors import BadArguments
from taskmill.server.protocol.questions import kind_of
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["checked_answers", "take_answers"]


def checked_answers(questions: Mapping[str, dict[str, Any]], answers: Mapping[str, Any]) -> dict[str, Any]:
    """The answers to open questions, in the form that is stored.

    Raises:
        BadArguments: an answer does not fit its question; the message names the key, and no answer is stored.
    """
    return {key: _checked(key, questions[key], answer) for key, answer in answers.items() if key in questions}


async def take_answers(store: TaskStore, task_id: str, who: str, given: Mapping[str, Any]) -> None:
    """Store the answers to a task's open questions; unknown and answered keys are ignored.

    Raises:
        BadArguments: an answer does not fit its question; none is stored.
        TaskNotFound: unknown, expired, or not the task of `who`.
    """
    view = await store.read(task_id, who)
    if answers := checked_answers(view.questions, given):
        await store.answer(task_id, who, answers)


def _checked(key: str, question: dict[str, Any], answer: Any) -> dict[str, Any]:
    method = question["method"]
    try:
        parsed = kind_of(question).result.model_validate(answer, by_name=False)
    except ValidationError:
        text = f"The answer to {key!r} is not a result of {method}. The question is still open."
        raise BadArguments(text, key=key) from None
    if isinstance(parsed, ElicitResult) and parsed.action == "accept":
        _check_content(key, question, parsed)
    return parsed.model_dump(by_alias=True, mode="json", exclude_none=True)


def _check_content(key: str, question: dict[str, Any], answer: ElicitResult) -> None:
    schema = question["params"].get("requestedSchema")
    if schema is None:
        return  # URL mode carries no content
    fault = next(Draft202012Validator(schema).iter_errors(answer.content or {}), None)
    if fault is not None:
        where = ".".join(str(part) for part in fault.absolute_path) or "the answer"
        raise BadArguments(
            f"The answer to {key!r} breaks its schema at {where} ({fault.validator}). The question is still open.",
            key=key,
        )
