"""Checks answers against the questions they answer. Unknown keys are dropped before their values are read."""

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from mcp_types import ElicitResult
from pydantic import ValidationError

from taskmill.engine.errors import BadArguments
from taskmill.server.protocol.questions import kind_of
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["fitting_answers", "take_answers"]


def fitting_answers(questions: Mapping[str, dict[str, Any]], answers: Mapping[str, Any]) -> dict[str, Any]:
    """The answers to questions that are open, as they will be stored.

    Raises:
        BadArguments: an answer does not fit its question; the message names the key, and nothing is taken.
    """
    return {key: _fit(key, questions[key], answer) for key, answer in answers.items() if key in questions}


async def take_answers(store: TaskStore, task_id: str, who: str, given: Mapping[str, Any]) -> None:
    """Give a task the answers to its open questions; unknown and answered keys are passed over.

    Raises:
        BadArguments: an answer does not fit its question; none is taken.
        TaskNotFound: unknown, expired, or not the task of `who`.
    """
    view = await store.read(task_id, who)
    if answers := fitting_answers(view.questions, given):
        await store.answer(task_id, who, answers)


def _fit(key: str, question: dict[str, Any], answer: Any) -> dict[str, Any]:
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
