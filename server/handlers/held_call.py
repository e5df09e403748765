"""One call held open in this process, for a client over stdio, of 2026-07-28 without tasks, or without a session."""

import asyncio
from typing import Any, assert_never

from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types import (
    CONNECTION_CLOSED,
    ClientCapabilities,
    CreateMessageRequest,
    CreateMessageResult,
    CreateMessageResultWithTools,
    ElicitationCapability,
    ElicitRequest,
    ElicitResult,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    RootsCapability,
    SamplingCapability,
    UrlElicitationCapability,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel

from taskmill.engine.errors import BadArguments, TaskNotFound
from taskmill.engine.events import Event
from taskmill.engine.record import Progress, TaskView
from taskmill.engine.status import Move
from taskmill.server.protocol.results import hand_off_result, tool_result
from taskmill.server.protocol.shapes_2026 import input_requests
from taskmill.server.protocol.status_text import progress_text, status_text
from taskmill.server.streams.paced_events import Meter, Pause, follow
from taskmill.server.tools.answers import fitting_answers
from taskmill.store.connection.retry import until_available
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["HeldCall"]

Question = dict[str, Any]

_KINDS: dict[str, tuple[type[BaseModel], type[BaseModel], ClientCapabilities]] = {
    "elicitation/create": (ElicitRequest, ElicitResult, ClientCapabilities(elicitation=ElicitationCapability())),
    "sampling/createMessage": (
        CreateMessageRequest,
        CreateMessageResult,
        ClientCapabilities(sampling=SamplingCapability()),
    ),
    "roots/list": (ListRootsRequest, ListRootsResult, ClientCapabilities(roots=RootsCapability())),
}
_LINK = ClientCapabilities(elicitation=ElicitationCapability(url=UrlElicitationCapability()))


class HeldCall:
    """What one held call has told its client."""

    def __init__(self, store: TaskStore, view: TaskView, ctx: ServerRequestContext[Any, Any], principal: str) -> None:
        self._store = store
        self._task_id = view.record.id
        self._since = view.record.seq
        self._principal = principal
        self._ctx = ctx
        self._meter = Meter()
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def follow(self, patience: float | None) -> HandlerResult:
        """The tool's own result; a hand-off after `patience` seconds; or the questions of a client that is asked so.

        Raises:
            MCPError: the tool raised one, the task broke, or it was cancelled.
            TaskNotFound: it expired.
        """
        try:
            async with follow(self._store.tails, self._task_id, limit=patience) as steps:
                async for step in steps:
                    answer = await self._step(step)
                    if answer is not None:
                        return answer
        finally:
            for task in self._asking.values():
                task.cancel()
        return tool_result(await self._look())

    async def _step(self, step: Event | Pause) -> HandlerResult:
        match step:
            case Pause.BEAT:
                view = await self._look()
                await self._tell(view.record.progress, status_text(view))
            case Pause.DUE:
                return hand_off_result(await self._look())
            case Event(move=Move.PROGRESS) if step.seq <= self._since:
                pass  # it was before this call
            case Event(move=Move.PROGRESS):
                progress = Progress(step.facts.get("done"), step.facts.get("total"), step.facts.get("message"))
                await self._tell(progress, progress_text(progress))
            case Event(move=Move.ASK):
                return await self._ask(await self._look())
            case Event():
                pass
            case _:
                assert_never(step)
        return None

    async def _tell(self, progress: Progress, text: str) -> None:
        await self._ctx.session.report_progress(self._meter.next(progress.done), progress.total, text or None)

    async def _ask(self, view: TaskView) -> HandlerResult:
        """Pass open questions on, the way this client can be asked; one that cannot is handed off with them."""
        if not view.questions:
            return None
        if not all(self._can(question) for question in view.questions.values()):
            return hand_off_result(view)
        if self._ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            return InputRequiredResult.model_validate({"inputRequests": input_requests(view)}, by_name=False)
        if not self._ctx.session.can_send_request:
            return hand_off_result(view)
        for key, question in view.questions.items():
            if key not in self._asking:
                self._asking[key] = asyncio.create_task(self._put(key, question), name="taskmill.question")
        return None

    def _can(self, question: Question) -> bool:
        needed = _LINK if question.get("params", {}).get("mode") == "url" else _KINDS[question["method"]][2]
        return self._ctx.session.check_client_capability(needed)

    async def _put(self, key: str, question: Question) -> None:
        """Ask until the answer fits. A client that refuses a form declines it; anything else ends the task."""
        wanted, given, _ = _KINDS[question["method"]]
        if question.get("params", {}).get("tools"):
            given = CreateMessageResultWithTools
        related = ServerMessageMetadata(related_request_id=self._ctx.request_id)
        request: Any = wanted.model_validate(question, by_name=False)
        while True:
            try:
                reply = await self._ctx.session.send_request(request, given, metadata=related)
                await self._answer(key, reply.model_dump(by_alias=True, mode="json", exclude_none=True))
                return
            except BadArguments:
                continue
            except TaskNotFound:
                return
            except MCPError as exc:
                # A connection that ends answers nothing: the host may be back with the same question open.
                if exc.error.code != CONNECTION_CLOSED:
                    await self._refused(key, question)
                return

    async def _answer(self, key: str, answer: dict[str, Any]) -> None:
        view = await self._look()
        fitting = fitting_answers(view.questions, {key: answer})
        await until_available(lambda: self._store.answer(self._task_id, self._principal, fitting))

    async def _refused(self, key: str, question: Question) -> None:
        if question["method"] == "elicitation/create":
            await self._answer(key, {"action": "cancel"})
            return
        await until_available(lambda: self._store.cancel(self._task_id, self._principal, reason="refused"))

    async def _look(self) -> TaskView:
        return await until_available(lambda: self._store.read(self._task_id, self._principal))
