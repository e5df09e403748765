"""What the scripted model does next: it follows the steps in the prompt, hand-offs and questions included.

The script stands in the prompt as `STEPS[{"tool": "survey", "args": {"seconds": 5}}, ...]STEPS`. The steps are called
one after the other; `"retry": 2` in a step calls a failed one again, twice at most. A result that hands a call off is
followed with task_wait, and one that asks a question with task_answer, as their words say. When no step is left the
model says `ALL STEPS DONE` and the last result. Nothing here knows how a model's API writes this: see `model_apis.py`.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["DONE", "Call", "Item", "Say", "Turn", "next_turn", "prompt_of", "steps_in"]

DONE = "ALL STEPS DONE"
_STEPS = re.compile(r"STEPS(\[.*?\])STEPS", re.DOTALL)
_HAND_OFF = re.compile(r'[Cc]all (?:the tool )?task_wait with (\{"task_id": ?"[^"]+"\})')
_QUESTION = re.compile(r'runs as task (\S+) and waits for an answer.\s*- key "([^"]+)"')
_FAILED = re.compile(r"try again|timed? ?out|timeout|error", re.IGNORECASE)
_SEARCH = re.compile(r"tool_?search", re.IGNORECASE)
_MOST_RESULTS = 40


@dataclass(frozen=True)
class Item:
    """One part of the conversation, whatever the API calls it."""

    kind: Literal["user", "assistant", "call", "result"]
    text: str = ""
    id: str = ""
    """Of a call, and of the result that belongs to it."""
    name: str = ""
    """The tool that a call is for."""


@dataclass(frozen=True)
class Call:
    """The model calls a tool, by the name that the host gave it."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Say:
    """The model ends its turn with words."""

    text: str


Turn = Call | Say


def prompt_of(steps: list[dict[str, Any]]) -> str:
    """The prompt that has the model take these steps."""
    return f"Follow the script. STEPS{json.dumps(steps)}STEPS"


def steps_in(text: str) -> list[dict[str, Any]] | None:
    """The steps that stand in a prompt, None if there are none. A host may have quoted the prompt once more."""
    found = _STEPS.search(text)
    if found is None:
        return None
    try:
        return list(json.loads(found[1]))
    except ValueError:
        return list(json.loads(_unquoted(found[1])))


def next_turn(items: list[Item], tools: list[str]) -> Turn:
    """The model's answer to a conversation, with the tools that the host offers by name."""
    starts = [at for at, item in enumerate(items) if item.kind == "user" and steps_in(item.text) is not None]
    if not starts:
        return Say("ok")
    rest = items[starts[-1] :]
    results = [item for item in rest if item.kind == "result"]
    if len(results) >= _MOST_RESULTS:
        return Say("TOO MANY TURNS")
    wanted = _next_call(steps_in(rest[0].text) or [], rest)
    if wanted is None:
        return Say(f"{DONE} {results[-1].text if results else ''}")
    return _as_offered(wanted, rest, tools)


def _next_call(steps: list[dict[str, Any]], items: list[Item]) -> Call | None:
    """The tool to call next by its own name, None = every step is done."""
    names = {item.id: item.name for item in items if item.kind == "call"}
    done, repeats, follow = 0, 0, None
    for result in (item for item in items if item.kind == "result"):
        text = _unquoted(result.text)
        if _SEARCH.search(names.get(result.id, "")):
            continue
        if asked := _QUESTION.search(text):
            follow = Call("task_answer", {"task_id": asked[1], "key": asked[2], "answer": {"yes": True}})
        elif handed_off := _HAND_OFF.search(text):
            follow = Call("task_wait", json.loads(handed_off[1]))
        elif _FAILED.search(text[:300]) and done < len(steps) and repeats < steps[done].get("retry", 0):
            repeats += 1  # What the model had to follow it follows again.
        else:
            done, repeats, follow = done + 1, 0, None
    if follow is None and done < len(steps):
        return Call(steps[done]["tool"], steps[done].get("args", {}))
    return follow


def _as_offered(wanted: Call, items: list[Item], tools: list[str]) -> Turn:
    """The call by the name that the host gave the tool; some hosts search for a tool, or call it through another."""
    if offered := _offered_name(wanted.name, tools):
        return Call(offered, wanted.arguments)
    known = re.findall(r"\w[\w-]*__" + wanted.name + r"\b", "\n".join(item.text for item in items))
    results = [item for item in items if item.kind == "result"]
    names = {item.id: item.name for item in items if item.kind == "call"}
    has_searched = bool(results) and "search" in names.get(results[-1].id, "").lower()
    search = _offered_name("ToolSearch", tools) or _offered_name("tool_search", tools)
    if search and not has_searched:
        return Call(search, {"query": f"select:{known[0]}" if known else wanted.name, "max_results": 5})
    if (through := _offered_name("tool_call", tools)) and results:
        return Call(through, {"name": known[0] if known else wanted.name, "arguments": wanted.arguments})
    return Say(f"NO TOOL {wanted.name}")


def _offered_name(wanted: str, tools: list[str]) -> str | None:
    """A tool's name with whatever the host put before it."""
    fits = [name for name in tools if name == wanted or re.search(r"[^a-zA-Z]" + re.escape(wanted) + "$", name)]
    return min(fits, key=len, default=None)


def _unquoted(text: str) -> str:
    """Hosts may give a model a result as JSON."""
    return text.replace('\\"', '"').replace("\\n", "\n")
