"""Calls of clients without tasks: held open, with progress as it happens, or handed off before the host's call timeout.
The work itself is a task like any other, on a worker.

A held call over HTTP before 2026 is a stream that any replica can continue (`call_stream.py`); any other is held here.
"""

import hashlib
import json
import time
from contextlib import aclosing, suppress
from typing import Any

import anyio
import structlog
from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolRequestParams, InputRequiredResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from taskmill.engine.errors import StoreUnavailable
from taskmill.engine.record import TaskView
from taskmill.server.auth.lifetime import sooner
from taskmill.server.auth.principal import list_owner, owner
from taskmill.server.handlers.hand_off import CallEnd, HandOff, end_of_call
from taskmill.server.handlers.held_call import HeldCall
from taskmill.server.handlers.known_hosts import HostTable
from taskmill.server.protocol.client_class import client_info
from taskmill.server.protocol.errors import wire_errors
from taskmill.server.protocol.results import HandOffBody, HandOffResult
from taskmill.server.sessions.dispatch import SessionDispatch, dispatch_of, new_call_id
from taskmill.server.streams.call_stream import task_messages
from taskmill.server.tool_host import HostTool
from taskmill.server.tools.answers import checked_answers
from taskmill.server.tools.call_keys import is_shared
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.server.tools.submission import Submission
from taskmill.store.metrics.counts import Counted
from taskmill.store.sessions.open_calls import CallKind, OpenCall

__all__ = ["CallsWithoutTasks"]

log = structlog.get_logger()
_STATE = "taskmill.task:"
"""Prefix of the `requestState` of a call whose result was a task's questions."""


class CallsWithoutTasks:
    """Serves task tools to clients that know no tasks."""

    def __init__(
        self, runtime: ServerRuntime, submission: Submission, hosts: HostTable, *, has_follow_ups: bool
    ) -> None:
        """`has_follow_ups`: the client's model can follow a task with tools, and answer its questions."""
        self._runtime = runtime
        self._submission = submission
        self._hosts = hosts
        self._hand_off = HandOff(runtime, hosts)
        self.has_follow_ups = has_follow_ups

    async def call(
        self, tool: HostTool, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any]
    ) -> HandlerResult:
        """What a foreground call would have answered, however long it takes; or a hand-off that names the task.

        Raises:
            MCPError: the tool raised one, the task broke, or the store refused it.
        """
        view = await self._continued(params, ctx) or await self._reattached(tool, params, ctx)
        if view is None:
            submitted = await self._submission.submit(tool, params, ctx, asks_by_tools=self.has_follow_ups)
            if not isinstance(submitted, TaskView):
                return submitted
            view = submitted
        # A task that other calls may share does not end with this one.
        kind = CallKind.WAIT if is_shared(tool.policy, params) else CallKind.CALL
        return await self.hold(view, ctx, tool, kind=kind, call=params)

    async def hold(
        self,
        view: TaskView,
        ctx: ServerRequestContext[Any, Any],
        tool: HostTool | None,
        *,
        kind: CallKind,
        call: CallToolRequestParams | None = None,
    ) -> HandlerResult:
        """Hold a call for a task, until its end or until it is handed off. `tool`: the task's, None = it is gone.

        `call`: the call that finds the task again when the client repeats it after a disconnect; None = no call does.
        """
        dispatch = dispatch_of(ctx.request)
        began = time.monotonic()
        with wire_errors():
            try:
                handoff_after = await self._begin(ctx, tool, kind)
                if dispatch is not None and dispatch.session is not None:
                    digest = _digest(call, ctx) if call is not None and kind is CallKind.CALL else ""
                    return self._counted(await self._stream(view, dispatch, handoff_after, kind, digest), view, ctx)
                sends_log = kind is not CallKind.RESULT  # those of a task of 2025 are sent with its notifications
                held = HeldCall(self._runtime.store, view, ctx, owner(ctx), sends_log=sends_log)
                return self._counted(_with_state(await held.run(handoff_after), view), view, ctx)
            except anyio.get_cancelled_exc_class():
                with anyio.CancelScope(shield=True):
                    await self._on_end(view, ctx, kind, call, time.monotonic() - began)
                raise

    def _counted(self, result: HandlerResult, view: TaskView, ctx: ServerRequestContext[Any, Any]) -> HandlerResult:
        """The result of a held call; a hand-off is counted."""
        if isinstance(result, HandOffResult | HandOffBody):
            label = self._hosts.label(client_info(ctx)[0])
            self._runtime.store.counts.add(Counted.HANDED_OFF, view.record.queue, view.record.tool, label)
        return result

    async def _begin(self, ctx: ServerRequestContext[Any, Any], tool: HostTool | None, kind: CallKind) -> float | None:
        """Seconds until the call is handed off, None = never: `tasks/result` waits for the end."""
        if kind is CallKind.RESULT:
            return None
        # The stream of a token that has expired ends: handed off before, the call's task is not out of reach.
        seconds = sooner(await self._hand_off.after(ctx, tool))
        self._runtime.clients.note_call(ctx, handoff_after=seconds)
        return seconds

    async def _stream(
        self, view: TaskView, dispatch: SessionDispatch, handoff_after: float | None, kind: CallKind, digest: str
    ) -> HandlerResult:
        store, session = self._runtime.store, dispatch.session
        assert session is not None
        assert dispatch.request_id is not None
        hand_off_ms = None if handoff_after is None else await store.now_ms() + int(handoff_after * 1000)
        call = OpenCall(
            new_call_id(),
            session.id,
            dispatch.request_id,
            view.record.id,
            dispatch.token,
            hand_off_ms=hand_off_ms,
            kind=kind,
            since=view.record.seq,
            digest=digest,
        )
        await dispatch.open_stream(call)
        async with aclosing(task_messages(store, session, call, 0)) as messages:
            async for one in messages:
                if not one.is_last:
                    dispatch.send(one.message, one.event_id)
                elif "error" in one.message:
                    error = one.message["error"]
                    raise MCPError(error["code"], error["message"], error.get("data"))
                else:
                    result: dict[str, Any] = one.message["result"]
                    return result
        raise AssertionError("the stream of a task's call ends with its response")

    async def _continued(self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any]) -> TaskView | None:
        """The task whose questions were the result of an earlier round of this call; takes the answers."""
        state = params.request_state or ""
        if not state.startswith(_STATE):
            return None
        with wire_errors():
            task_id, who = state.removeprefix(_STATE), owner(ctx)
            view = await self._runtime.store.read(task_id, who)
            given = params.model_dump(by_alias=True, mode="json", exclude_none=True).get("inputResponses", {})
            answers = checked_answers(view.questions, given)
            if answers:
                await self._runtime.store.answer(task_id, who, answers)
                view = await self._runtime.store.read(task_id, who)
            return view

    async def _reattached(
        self, tool: HostTool, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any]
    ) -> TaskView | None:
        """The task of the same call by the same principal, if its client disconnected within the grace."""
        with wire_errors():
            task_id = await self._runtime.store.abandoned_calls.take(owner(ctx), _digest(params, ctx))
            view = None if task_id is None else await self._runtime.store.find(task_id, owner(ctx))
        if view is not None:
            log.info("task.found_again", task_id=view.record.id, tool=view.record.tool)
        return view

    async def _on_end(
        self,
        view: TaskView,
        ctx: ServerRequestContext[Any, Any],
        kind: CallKind,
        call: CallToolRequestParams | None,
        held_for: float,
    ) -> None:
        """The client has cancelled the call or given it up, or it was ended here."""
        if kind is CallKind.RESULT:
            return
        end = await end_of_call(ctx)
        with suppress(StoreUnavailable):
            await self._hand_off.learn(ctx, end, held_for)
        if kind is not CallKind.CALL:
            return
        if end is CallEnd.CANCELLED:
            await self._runtime.abandoned_calls.cancel_task(view.record.id, owner(ctx), "client")
        elif call is not None:
            cancels = end is not CallEnd.TIMED_OUT and _disconnect_cancels(ctx)
            await self._runtime.abandoned_calls.abandon(view.record.id, owner(ctx), _digest(call, ctx), cancels=cancels)


def _with_state(result: HandlerResult, view: TaskView) -> HandlerResult:
    """Questions that a client of 2026-07-28 answers with its next round name the task, so that the round finds it."""
    if isinstance(result, InputRequiredResult):
        return result.model_copy(update={"request_state": _STATE + view.record.id})
    return result


def _disconnect_cancels(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether a disconnect means a cancel, which drops the task after the grace: over HTTP from 2026 on.

    Before, it is a lost connection. Over stdio it means that the host was restarted.
    """
    return ctx.request is not None and ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


def _digest(params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any]) -> str:
    """Of the call; among anonymous clients, which are one principal, also of its session."""
    parts = [params.name, params.arguments or {}, list_owner(ctx)]
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]
