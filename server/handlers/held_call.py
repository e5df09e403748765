"""One call held open in this process, for a client over stdio, of 2026-07-28 without tasks, or without a session."""

import asyncio
from typing import Any, assert_never

import structlog
from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types import (
    CONNECTION_CLOSED,
    InputRequiredResult,
    LoggingMessageNotification,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from taskmill.engine.errors import BadArguments, TaskNotFound
from taskmill.engine.events import Event, LogMessage
from taskmill.engine.record import Progress, TaskView
from taskmill.engine.status import Move
from taskmill.server.handlers.log_levels import level_of
from taskmill.server.protocol.questions import can_ask, kind_of
from taskmill.server.protocol.results import hand_off_result, tool_result
from taskmill.server.protocol.shapes_2026 import input_requests
from taskmill.server.protocol.status_text import progress_text, status_text
from taskmill.server.streams.client_requests import take_refusal
from taskmill.server.streams.log_messages import is_wanted, message_notification
from taskmill.server.streams.paced_events import Due, paced_events
from taskmill.server.streams.progress import RisingProgress
from taskmill.server.tools.answers import take_answers
from taskmill.store.connection.retry import until_available
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["HeldCall"]

log = structlog.get_logger()
Question = dict[str, Any]


class HeldCall:
    """Follows one task for one client, and passes its progress and its questions on."""

    def __init__(
        self,
        store: TaskStore,
        view: TaskView,
        ctx: ServerRequestContext[Any, Any],
        principal: str,
        *,
        sends_log: bool,
    ) -> None:
        """`sends_log`: what the task logs is sent with this call, and nowhere else."""
        self._store = store
        self._task_id = view.record.id
        self._since = view.record.seq
        self._principal = principal
        self._ctx = ctx
        self._sends_log = sends_log
        self._rising = RisingProgress()
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def run(self, handoff_after: float | None) -> HandlerResult:
        """The tool's own result; a hand-off after `handoff_after` seconds; or open questions, for a client of 2026.

        Raises:
            MCPError: the tool raised one, the task broke, or it was cancelled.
            TaskNotFound: it expired.
        """
        try:
            async with paced_events(self._store.tails, self._task_id, handoff_after=handoff_after) as steps:
                async for step in steps:
                    result = await self._step(step)
                    if result is not None:
                        return result
        finally:
            for task in self._asking.values():
                task.cancel()
        return tool_result(await self._look())

    async def _step(self, step: Event | LogMessage | Due) -> HandlerResult:
        match step:
            case LogMessage():
                await self._send_log(step)
            case Due.HEARTBEAT:
                view = await self._look()
                await self._send_progress(view.record.progress, status_text(view))
            case Due.HAND_OFF:
                log.info("call.handed_off", task_id=self._task_id)
                return hand_off_result(await self._look())
            case Event(move=Move.PROGRESS) if step.seq <= self._since:
                pass  # it happened before this call
            case Event(move=Move.PROGRESS):
                progress = Progress.of_facts(step.facts)
                await self._send_progress(progress, progress_text(progress))
            case Event(move=Move.ASK):
                return await self._ask(await self._look())
            case Event():
                pass
            case _:
                assert_never(step)
        return None

    async def _send_log(self, message: LogMessage) -> None:
        if self._sends_log and is_wanted(message, level_of(self._ctx)):
            sent = message_notification(message)
            notification = LoggingMessageNotification.model_validate(sent, by_name=False)
            await self._ctx.session.send_notification(notification, related_request_id=self._ctx.request_id)

    async def _send_progress(self, progress: Progress, text: str) -> None:
        await self._ctx.session.report_progress(self._rising.next(progress.done), progress.total, text or None)

    async def _ask(self, view: TaskView) -> HandlerResult:
        """Pass open questions on in the way of the client's revision; a client that cannot be asked is handed off."""
        if not view.questions:
            return None
        if not all(can_ask(self._ctx.session.client_capabilities, question) for question in view.questions.values()):
            return hand_off_result(view)
        if self._ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            return InputRequiredResult.model_validate({"inputRequests": input_requests(view)}, by_name=False)
        if not self._ctx.session.can_send_request:
            return hand_off_result(view)
        for key, question in view.questions.items():
            if key not in self._asking:
                self._asking[key] = asyncio.create_task(self._ask_one(key, question), name="taskmill.question")
        return None

    async def _ask_one(self, key: str, question: Question) -> None:
        """Ask until the answer fits, or the client refuses."""
        kind = kind_of(question)
        metadata = ServerMessageMetadata(related_request_id=self._ctx.request_id)
        request: Any = kind.request.model_validate(question, by_name=False)
        while True:
            try:
                reply = await self._ctx.session.send_request(request, kind.result, metadata=metadata)
                await self._answer(key, reply.model_dump(by_alias=True, mode="json", exclude_none=True))
                return
            except BadArguments:
                continue
            except TaskNotFound:
                return
            except MCPError as exc:
                # A closed connection is no refusal: the host may reconnect, and the question is still open.
                if exc.error.code != CONNECTION_CLOSED:
                    await self._refuse(key, question)
                return

    async def _answer(self, key: str, answer: dict[str, Any]) -> None:
        await until_available(lambda: take_answers(self._store, self._task_id, self._principal, {key: answer}))

    async def _refuse(self, key: str, question: Question) -> None:
        await until_available(lambda: take_refusal(self._store, self._task_id, self._principal, key, question))

    async def _look(self) -> TaskView:
        return await until_available(lambda: self._store.read(self._task_id, self._principal))
