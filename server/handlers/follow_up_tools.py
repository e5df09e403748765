"""The tools with which a client without tasks follows a task: to a model they are tools like any other.

Their texts are written for a model: what to do next, and never to start the work again.
"""

from typing import Any

from mcp.server.context import HandlerResult
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, TextContent

from taskmill.engine.errors import BadArguments, DuplicateTool, TaskNotFound
from taskmill.engine.record import TaskView
from taskmill.server.auth.principal import list_owner, owner
from taskmill.server.context.context import Context
from taskmill.server.handlers.calls_without_tasks import CallsWithoutTasks
from taskmill.server.protocol.errors import wire_errors
from taskmill.server.protocol.results import hand_off_result, question_lines
from taskmill.server.protocol.shapes_2026 import iso, wire_status
from taskmill.server.protocol.status_text import status_text
from taskmill.server.tools.answers import checked_answers
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.store.sessions.open_calls import CallKind

__all__ = ["FOLLOW_UP_TOOLS", "FollowUpTools", "duplicate_tool"]

FOLLOW_UP_TOOLS = ("task_wait", "task_status", "task_answer", "task_cancel", "task_list")
_LISTED = 20
AnyContext = Context[Any, Any]


class FollowUpTools:
    """The follow-up tools of one server; a caller reaches its own tasks only."""

    def __init__(self, runtime: ServerRuntime, plain: CallsWithoutTasks) -> None:
        self._runtime = runtime
        self._plain = plain

    def tools(self) -> list[tuple[str, Any]]:
        """Name and function of each tool."""
        return [(name, getattr(self, name)) for name in FOLLOW_UP_TOOLS]

    async def task_wait(self, task_id: str, ctx: AnyContext) -> CallToolResult:
        """Wait for a task that is still running, and return the result of the tool that it belongs to.

        Use it after a tool call came back with a task id instead of a result. It may come back with "still running":
        that is normal for long work; call it again with the same task id until the result is there. Do not call the
        original tool again.
        """
        view = await self._find(task_id, ctx)
        request = ctx.request_context
        entry = self._runtime.tools.find(view.record.tool)
        held: HandlerResult = await self._plain.hold(view, request, entry, kind=CallKind.WAIT)
        if isinstance(held, dict):
            return CallToolResult.model_validate(held, by_name=False)
        if isinstance(held, CallToolResult):
            return held
        return hand_off_result(await self._find(task_id, ctx))

    async def task_status(self, task_id: str, ctx: AnyContext) -> CallToolResult:
        """Say how far a task is, at once. To get its result use task_wait, which waits for it."""
        view = await self._find(task_id, ctx)
        if view.questions:
            return hand_off_result(view)
        return _text(_line(view) + ("\n" + _next_step(view)))

    async def task_answer(self, task_id: str, key: str, answer: dict[str, Any], ctx: AnyContext) -> CallToolResult:
        """Answer a question that a task asks. The key and the form of the answer stand in the task's question; what is
        asked of the user must come from the user.
        """
        view = await self._find(task_id, ctx)
        question = view.questions.get(key)
        if question is None:
            raise ToolError(f"Task {task_id} has no open question {key!r}. Call task_status to see what it asks.")
        try:
            fitting = checked_answers(view.questions, {key: _protocol_answer(question["method"], answer)})
        except BadArguments as exc:
            raise ToolError(f"{exc}\n{question_lines(view)}") from exc
        with wire_errors():
            await self._runtime.store.answer(task_id, owner(ctx.request_context), fitting)
        return _text(f'The answer was taken. Call task_wait with {{"task_id": "{task_id}"}} for the result.')

    async def task_cancel(self, task_id: str, ctx: AnyContext) -> CallToolResult:
        """Cancel a task that is no longer wanted. The work done so far is lost."""
        view = await self._find(task_id, ctx)
        with wire_errors():
            ended = not await self._runtime.store.cancel(task_id, owner(ctx.request_context), reason="client")
        if ended:
            return _text(f"Task {task_id} had already ended ({status_text(view)}); there is nothing to cancel.")
        return _text(f"Task {task_id} was cancelled.")

    async def task_list(self, ctx: AnyContext) -> CallToolResult:
        """List the tasks you started, newest first, with their ids and how far they are."""
        who = list_owner(ctx.request_context)
        if not who:
            return _text("Tasks can be listed here only with authentication, or within a session. Use the task id.")
        with wire_errors():
            page = await self._runtime.store.page(who, limit=_LISTED)
        lines = [_line(view) for view in page.views]
        if page.unreachable:
            lines.append(f"Tasks on {', '.join(page.unreachable)} cannot be listed right now. Try again in a moment.")
        return _text("\n".join(lines) if lines else "There are no tasks.")

    async def _find(self, task_id: str, ctx: AnyContext) -> TaskView:
        with wire_errors():
            try:
                return await self._runtime.store.read(task_id, owner(ctx.request_context))
            except TaskNotFound:
                text = f"There is no task {task_id!r}: the id is wrong, or the task ended long ago and was forgotten."
                raise ToolError(text) from None


def _protocol_answer(method: str, answer: dict[str, Any]) -> dict[str, Any]:
    """A model's answer as the protocol's: from the short form that `question_lines` asks for; any other unchanged."""
    match method, answer:
        case "elicitation/create", {"action": _}:
            return answer
        case "elicitation/create", _:
            return {"action": "accept", "content": answer}
        case "sampling/createMessage", {"text": str(text)}:
            return {"role": "assistant", "content": {"type": "text", "text": text}, "model": "client"}
        case "roots/list", {"roots": list(roots)}:
            return {"roots": [{"uri": root} if isinstance(root, str) else root for root in roots]}
        case _:
            return answer


def duplicate_tool(name: str, without: str = "TaskServer(..., follow_up_tools=False)") -> DuplicateTool:
    """The error for a tool whose name is in use. `without`: what an author writes to have no follow-up tools."""
    if name not in FOLLOW_UP_TOOLS:
        return DuplicateTool(f"Two tools are named {name!r}. Give one another name: @mcp.tool(name=...).")
    return DuplicateTool(
        f"{name!r} is one of the tools by which clients without tasks follow one. Give yours another name, or leave "
        f"those out: {without}."
    )


def _line(view: TaskView) -> str:
    record = view.record
    state = f"{wire_status(record.status)}: {status_text(view)}"
    return f"Task {record.id} ({record.tool}, started {iso(record.created_ms)}) - {state}"


def _next_step(view: TaskView) -> str:
    return f'Call task_wait with {{"task_id": "{view.record.id}"}} for the result.'


def _text(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)])
