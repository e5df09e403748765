"""Answers that a test gives to a tool's questions, in whatever form is shortest to write."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import BaseModel

__all__ = ["Answerer", "Answers"]

Json = dict[str, Any]
Answers = Iterable[Any] | Callable[[Json], Any]
"""Answers in the order of the questions, or a function of the question (a request with `method` and `params`).

An answer is the accepted content as a dict or model, the word "decline" or "cancel", or a whole protocol result.
"""
_REFUSALS = ("decline", "cancel")
_RESULTS = ("action", "role", "roots")
"""Members that only a whole result of elicitation, sampling or roots has."""


class Answerer:
    """Gives the answers of a test, and remembers the questions."""

    def __init__(self, answers: Answers = ()) -> None:
        self._of: Callable[[Json], Any] = answers if callable(answers) else _from(iter(answers))
        self.asked: list[Json] = []
        """Every question so far, as the request that the client got."""

    def __call__(self, question: Json) -> Json:
        """The protocol result that answers `question`.

        Raises:
            AssertionError: the test has no answer to it.
        """
        self.asked.append(question)
        answer = self._of(question)
        if isinstance(answer, BaseModel):
            answer = answer.model_dump(by_alias=True, mode="json", exclude_none=True)
        if answer in _REFUSALS:
            return {"action": answer}
        assert isinstance(answer, dict), f"an answer is a dict, a model, 'decline' or 'cancel', not {answer!r}"
        if any(name in answer for name in _RESULTS):
            return answer
        return {"action": "accept", "content": answer}


def _from(answers: Iterator[Any]) -> Callable[[Json], Any]:
    def next_answer(question: Json) -> Any:
        for answer in answers:
            return answer
        text = question.get("params", {}).get("message", question["method"])
        raise AssertionError(f"the tool asked {text!r}, and the test has no answer left: answers=[...]")

    return next_answer
