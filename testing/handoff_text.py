"""Reads the text of a reply that asks, as a model would: the task, and its questions as protocol requests."""

import json
import re
from typing import Any

__all__ = ["questions_in"]

Json = dict[str, Any]
_ASKING = re.compile(r"runs as task ([\w-]+) and waits for an answer")
_LINE = re.compile(r'^- key "([\w-]+)": (.*)$', re.MULTILINE)
_FORM = re.compile(r"(.*) The answer must fit this JSON schema: (\{.*\}) - or be ")
_LINK = re.compile(r"(.*) The user must open (\S+) in a browser")
_MODEL = re.compile(r"it asks you, the model, to reply to (\{.*\})\. The answer is ")


def questions_in(text: str) -> tuple[str, dict[str, Json]] | None:
    """The task's id and its open questions by key; None if the text asks nothing."""
    asking = _ASKING.search(text)
    if asking is None:
        return None
    return asking[1], {key: _question(words) for key, words in _LINE.findall(text)}


def _question(words: str) -> Json:
    if form := _FORM.match(words):
        return _elicitation({"mode": "form", "message": form[1], "requestedSchema": json.loads(form[2])})
    if link := _LINK.match(words):
        return _elicitation({"mode": "url", "message": link[1], "url": link[2]})
    if model := _MODEL.match(words):
        return {"method": "sampling/createMessage", "params": json.loads(model[1])}
    return {"method": "roots/list"}


def _elicitation(params: Json) -> Json:
    return {"method": "elicitation/create", "params": params}
