"""Clients of every class, each noting in a journal of its own what it was told, and nothing else.

They start tasks, follow, answer, cancel, and try on other people's ids. What they see is judged later, by `checker.py`.
"""

import asyncio
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.deployment import pass_time
from tests.chaos.journal import Journal
from tests.chaos.wire_client import Json, Lost, Refused, Wire

__all__ = ["CLASSES", "TOOLS", "Client", "Known", "Order", "json_of", "order_of"]

CLASSES = ("tasks 2026", "tasks 2025", "held 2026", "held 2025", "handed off")
TERMINAL = ("completed", "failed", "cancelled")
TOOLS = {
    "quick": 40,
    "walk": 20,
    "stroll": 8,
    "flaky": 8,
    "refuse": 4,
    "leave": 3,
    "newer": 6,
    "ask": 5,
    "travel": 6,
    "queue": 5,
    "deliver": 4,
    "isolate": 1,
    "hog": 2,
    "hang": 2,
    "die": 1,
    "block": 1,
}
"""Tool by weight."""
_PLAIN_TOOLS = ("quick", "walk", "stroll", "flaky", "newer", "travel", "queue")
"""Those whose result names the task, which is all that a client without tasks learns of it."""
_TIMED = ("walk", "stroll", "block", "hang", "travel", "queue")
_TASK_ID = re.compile(r"task ([\w-]{43})\b")


@dataclass(frozen=True)
class Order:
    """One call to be made."""

    n: int
    tool: str
    kind: str
    seconds: float

    @property
    def arguments(self) -> Json:
        """What the tool is called with."""
        return {"n": self.n, **({"seconds": self.seconds} if self.tool in _TIMED else {})}


@dataclass
class Known:
    """What all clients share: whose tasks there are, for those who pry."""

    tasks: dict[str, str] = field(default_factory=dict)
    """Task -> principal."""


class Client:
    """One client program of one principal: carries out orders one after another."""

    def __init__(self, wire: Wire, journal: Journal, known: Known, chance: random.Random) -> None:
        self._wire = wire
        self._journal = journal
        self._known = known
        self._chance = chance

    async def carry_out(self, order: Order) -> None:
        """Start the order until somebody acknowledges it, and follow it to its end."""
        how: dict[str, Callable[[Order], Any]] = {
            "tasks 2026": self._task_2026,
            "tasks 2025": self._task_2025,
            "held 2026": self._held,
            "held 2025": self._held,
            "handed off": self._held,
        }
        if order.kind.endswith("2026"):
            await self._wire.close()
        elif self._wire.session is None:
            await self._insist(self._wire.open)
        await how[order.kind](order)
        if self._chance.random() < 0.1:
            await self._pry()

    async def _task_2026(self, order: Order) -> None:
        async def create() -> str:
            task = await self._call(order)
            return str(task["taskId"])

        await self._follow(order, await self._insist(create))

    async def _task_2025(self, order: Order) -> None:
        async def create() -> str:
            reply = await self._call(order, task={})
            return str(reply["task"]["taskId"])

        await self._follow(order, await self._insist(create))

    async def _held(self, order: Order) -> None:
        """The call is held open; or it comes back with words that lead to the task."""
        meta = {"_meta": {"progressToken": order.n}} if order.kind == "held 2025" else {}
        try:
            result = await self._call(order, tasks=False, **meta)
            while found := _TASK_ID.search(_text(result)):
                self._note("handed off", found[1])
                self._created(order, found[1])
                wait = {"name": "task_wait", "arguments": {"task_id": found[1]}}
                result = await self._insist(lambda wait=wait: self._wire.ask("tools/call", wait, tasks=False))
        except Lost:
            return  # a client without tasks has nothing to go by
        except Refused as refused:
            self._note("refused", order.n, refused.code)
            return
        self._told(order, result)

    async def _call(self, order: Order, *, tasks: bool = True, **more: Any) -> Json:
        self._note("asked", order.n, order.tool, order.kind, self._wire.principal)
        return await self._wire.ask(
            "tools/call", {"name": order.tool, "arguments": order.arguments, **more}, tasks=tasks
        )

    async def _follow(self, order: Order, task_id: str) -> None:
        self._created(order, task_id)
        cancels = self._chance.random() < 0.07
        pause = 0.05
        while True:
            task = await self._look(task_id)
            if task is None or task["status"] in TERMINAL:
                return
            if cancels and self._chance.random() < 0.3:
                cancels = False
                await self._cancel(task_id)
            elif task["status"] == "input_required" and self._wire.session is None:
                given = {key: {"action": "accept", "content": {"yes": True}} for key in task.get("inputRequests", {})}
                await self._try("tasks/update", taskId=task_id, inputResponses=given)
            else:
                await pass_time(pause * self._chance.uniform(0.5, 1.5))
                pause = min(2.0, pause * 1.7)

    async def _look(self, task_id: str) -> Json | None:
        try:
            task: Json = await self._insist(lambda: self._wire.ask("tasks/get", {"taskId": task_id}))
        except Refused as refused:
            self._note("missing", task_id, refused.code)
            return None
        result = task.get("result")
        if self._wire.session is not None and task["status"] == "completed":
            result = await self._insist(lambda: self._wire.ask("tasks/result", {"taskId": task_id}))
        text = None if result is None else _text(result)
        self._note("seen", task_id, task["status"], task["lastUpdatedAt"], text)
        for part in (result or {}).get("content", []):
            if part["type"] == "resource_link":
                await self._fetch(task_id, part["uri"])
        return task

    async def _fetch(self, task_id: str, uri: str) -> None:
        """An artifact begins with what the result says too."""
        try:
            read = await self._insist(lambda: self._wire.ask("resources/read", {"uri": uri}))
        except Refused as refused:
            self._note("missing", task_id, refused.code)
            return
        whole = read["contents"][0]["text"]
        self._note("fetched", task_id, whole.rstrip("."), len(whole))

    async def _cancel(self, task_id: str) -> None:
        self._note("cancelling", task_id)
        try:
            await self._wire.ask("tasks/cancel", {"taskId": task_id})
        except Lost:
            return
        except Refused:
            pass  # it had ended; before 2026 that is an error
        self._note("cancelled", task_id)

    async def _pry(self) -> None:
        """Other people's tasks, by every method."""
        others = [task for task, whose in self._known.tasks.items() if whose != self._wire.principal][-50:]
        if not others:
            return
        task_id = self._chance.choice(others)
        for method in ("tasks/get", "tasks/cancel"):
            try:
                await self._wire.ask(method, {"taskId": task_id})
                self._note("pried", task_id, method, 0)
            except Refused as refused:
                self._note("pried", task_id, method, refused.code)
            except Lost:
                pass

    async def _try(self, method: str, **params: Any) -> None:
        try:
            await self._wire.ask(method, params)
        except (Lost, Refused):
            pass

    async def _insist(self, request: Callable[[], Any]) -> Any:
        """Ask until there is an answer."""
        while True:
            try:
                return await request()
            except Lost:
                await asyncio.sleep(0.1)

    def _created(self, order: Order, task_id: str) -> None:
        self._known.tasks[task_id] = self._wire.principal
        self._note("created", task_id, order.n, order.tool, order.kind, self._wire.principal)

    def _told(self, order: Order, result: Json) -> None:
        """The answer to a call without a task: the task's own result."""
        self._note("told", order.n, order.tool, bool(result.get("isError")), _text(result))

    def _note(self, what: str, *facts: Any) -> None:
        self._journal.note(what, *facts)


def _text(result: Json) -> str:
    content = result.get("content") or [{}]
    return str(content[0].get("text", ""))


def order_of(n: int, chance: random.Random, lease: float) -> Order:
    """The n-th order of a run."""
    kind = chance.choices(CLASSES, [50, 20, 10, 10, 10])[0]
    tools = TOOLS if kind == "tasks 2026" else {tool: TOOLS[tool] for tool in _PLAIN_TOOLS}
    tool = chance.choices(list(tools), list(tools.values()))[0]
    seconds = {"block": lease * 1.3, "hang": 2.0, "walk": chance.choice([0.2, 0.5, 2.5])}.get(tool, 0.1)
    return Order(n, tool, kind, seconds)


def json_of(text: str) -> Json:
    """What a tool's result says of itself; empty where it is an error's words."""
    try:
        said = json.loads(text)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
