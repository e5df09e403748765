"""Questions of tasks as forms, and what a form says as an answer. No I/O."""

import json
from collections.abc import Mapping
from typing import Any

from taskmill.engine.errors import BadArguments

__all__ = ["answer_of"]


def answer_of(question: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """The answer in the protocol's form. A field of a form is `field.NAME`; what is no form is answered as JSON.

    Raises:
        BadArguments: a field has no value of its type.
    """
    action = given.get("action", "accept")
    if question.get("method") != "elicitation/create":
        return _json(given.get("json", ""))
    if action != "accept":
        return {"action": "cancel" if action == "cancel" else "decline"}
    schema = (question.get("params") or {}).get("requestedSchema") or {}
    content = {
        name: _value(name, field, given[f"field.{name}"])
        for name, field in (schema.get("properties") or {}).items()
        if given.get(f"field.{name}", "") != ""
    }
    return {"action": "accept", "content": content}


def _value(name: str, field: Mapping[str, Any], text: str) -> Any:
    try:
        match field.get("type"):
            case "boolean":
                return text == "true"
            case "integer":
                return int(text)
            case "number":
                return float(text)
            case "array":
                return [one.strip() for one in text.split(",") if one.strip()]
            case _:
                return text
    except ValueError:
        raise BadArguments(f"{name} must be a number.") from None


def _json(text: str) -> dict[str, Any]:
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise BadArguments("The answer must be a JSON object, as the protocol has it for this request.")
    return answer
