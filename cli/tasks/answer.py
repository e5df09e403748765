"""`taskmill tasks answer`: answers the open questions of a task, with given words or by asking the person."""

from collections.abc import Sequence
from typing import Any

from taskmill.cli.client.given_answers import answer_from
from taskmill.cli.errors import CommandFailed, Failure, UsageError
from taskmill.cli.tasks.source import Json, TaskSource
from taskmill.cli.terminal.input import is_interactive

__all__ = ["answer_task"]


async def answer_task(source: TaskSource, task_id: str, words: Sequence[str]) -> Json:
    """Answer every open question of the task; the task afterwards.

    Raises:
        CommandFailed: it asks nothing, or the server refused an answer.
        UsageError: the words do not answer a question, or there are none and no terminal.
    """
    questions: Json = (await source.show(task_id))["questions"]
    if not questions:
        raise CommandFailed(Failure("The task asks nothing now.", 1))
    answers = {key: await _answer(request, words) for key, request in questions.items()}
    await source.answer(task_id, answers)
    return await source.show(task_id)


async def _answer(request: Json, words: Sequence[str]) -> dict[str, Any]:
    if request.get("method") != "elicitation/create":
        raise UsageError(f"The task asks for {request.get('method')}, which a client must answer that can do that.")
    if words:
        return answer_from(words, request.get("params") or {})
    if not is_interactive():
        raise UsageError("Give the answer as key=value; `taskmill tasks show ID` shows the question.")
    # The protocol's types take half a second to import, and only a person at a terminal needs them here.
    from mcp_types import ElicitRequest

    from taskmill.cli.client.elicitation import ask_person

    answer = await ask_person(ElicitRequest.model_validate(request, by_name=False).params)
    return answer.model_dump(by_alias=True, mode="json", exclude_none=True)
