"""Answers that a test gives to a tool's questions, in short forms."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import BaseModel

__all__ = ["Answerer", "Answers"]

Json = dict[str, Any]
Answers = Iterable[Any] | Callable[[Json], Any]
"""Answers in the order of the questions, or a function of the question (a request with `method` and `params`).

An answer of a user is the accepted content as a dict or model, or the word "accept", "decline" or "cancel"; of a model
its text; of roots a list of addresses. Or the whole protocol result.
"""
_ACTIONS = ("accept", "decline", "cancel")


class Answerer:
    """Gives the answers of a test, and records the questions."""

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
        match question["method"], answer:
            case "elicitation/create", {"action": _}:
                return dict(answer)
            case "elicitation/create", str() if answer in _ACTIONS:
                return {"action": answer}
            case "elicitation/create", dict():
                return {"action": "accept", "content": answer}
            case "sampling/createMessage", str():
                return {"role": "assistant", "content": {"type": "text", "text": answer}, "model": "test"}
            case "roots/list", list():
                return {"roots": [{"uri": uri} for uri in answer]}
            case (("sampling/createMessage" | "roots/list"), dict()):
                return answer
            case method, _:
                raise AssertionError(f"{answer!r} is no answer to {method}")


def _from(answers: Iterator[Any]) -> Callable[[Json], Any]:
    def next_answer(question: Json) -> Any:
        for answer in answers:
            return answer
        text = question.get("params", {}).get("message", question["method"])
        raise AssertionError(f"the tool asked {text!r}, and the test has no answer left: answers=[...]")

    return next_answer
