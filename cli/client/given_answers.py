"""Answers to a tool's questions from words of the command line, where no person is asked."""

from collections.abc import Mapping, Sequence
from typing import Any

from taskmill.cli.client.arguments import parse_arguments, split_pairs
from taskmill.cli.errors import UsageError

__all__ = ["NO_ANSWERS", "answer_from"]

NO_ANSWERS = ("decline", "cancel")
"""Words in the place of `key=value`: the person does not want to answer, or wants the tool to stop."""


def answer_from(words: Sequence[str], question: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a form (the `params` of its request), as a result of the protocol.

    A word whose key is no field of this form is left for another question.

    Raises:
        UsageError: a required field has no word, or the question is no form; the message says what to write.
    """
    if len(words) == 1 and words[0] in NO_ANSWERS:
        return {"action": words[0]}
    message = str(question.get("message", ""))
    schema = question.get("requestedSchema")
    if not isinstance(schema, Mapping):
        raise UsageError(f"The question {message!r} is no form: only 'decline' or 'cancel' can answer it here.")
    fields = schema.get("properties", {})
    pairs = {key: value for key, value in split_pairs(words).items() if key in fields}
    missing = [key for key in schema.get("required", ()) if key not in pairs and "default" not in fields.get(key, {})]
    if missing or (fields and not pairs):
        listed = "".join(
            f"\n    {key}  {fields[key].get('description') or fields[key].get('type', '')}" for key in fields
        )
        needed = " and ".join(missing or fields)
        raise UsageError(f"The question {message!r} needs {needed} as key=value. Its fields:{listed}")
    return {"action": "accept", "content": parse_arguments(pairs, schema)}
