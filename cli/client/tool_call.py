"""One call over the protocol, from the list of tools to the result, with whatever comes in between.

The connection may break and come back while a task is followed: any replica can answer for it. Where the server runs,
and what is printed in the end, is `call.py`'s business.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import anyio
import httpx2
from mcp.client import Client
from mcp.client.session import ClientRequestContext, ClientSession
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ElicitRequestParams, ElicitResult, Implementation, Tool

from taskmill.cli.client.arguments import check_arguments, parse_arguments, parse_object, split_pairs
from taskmill.cli.client.elicitation import ask_person
from taskmill.cli.client.task_follower import Follower, failed_result, is_passing
from taskmill.cli.client.tasks_extension import TasksExtension, cancel_task
from taskmill.cli.errors import INTERRUPTED, Unanswered, UsageFault, only_cause
from taskmill.cli.terminal.input import CancelPrompt, is_interactive, read_line
from taskmill.cli.terminal.progress import Display

__all__ = ["CallRequest", "Ending", "ToolCall"]

_RETURN_WITHIN = 30.0
"""Seconds a broken connection gets to come back."""
_TRY_AGAIN_AFTER = 0.5


@dataclass(frozen=True)
class CallRequest:
    """What is to be called."""

    tool: str
    """Name of the tool; empty when a task is attached to."""
    words: Sequence[str] = ()
    """Arguments as `key=value`."""
    arguments: str | None = None
    """Arguments as JSON."""
    attach: str | None = None
    """Id of a task to follow instead of a call."""
    detach: bool = False
    """Leave the task once it exists."""
    timeout: float | None = None
    """Seconds to wait for the result, None = no limit."""


@dataclass(frozen=True)
class Ending:
    """How it ended."""

    result: CallToolResult | None = None
    """What the tool returned, None if it was not waited for."""
    task_id: str | None = None
    """The task, if the call became one and may still go on."""
    code: int = 0
    """Exit code."""
    leave: bool = False
    """The person wants the task to go on without us."""
    says: str = ""
    """What to tell the person, empty = nothing."""


class _Detached(Exception):
    """The call became a task, and nobody wants to wait."""


class ToolCall:
    """A client's side of one call."""

    def __init__(self, url: str, wish: CallRequest, display: Display, attention: CancelPrompt) -> None:
        self._url = url
        self._wish = wish
        self._display = display
        self._attention = attention
        self._asks = is_interactive()
        self._follower = Follower(display, ask_person if self._asks else None)
        self._task_id = wish.attach
        self._deadline = anyio.current_time() + (wish.timeout or float("inf"))
        self._seen = float("-inf")
        """When the server was last connected to."""

    async def hold(self) -> Ending:
        """Call, or attach, and see it through.

        Raises:
            Unanswered: nobody answers at the URL.
            UsageFault: there is no such tool, or it takes other arguments.
            Reported: the server refused.
        """
        while True:
            try:
                with only_cause():
                    async with self._client() as client:
                        self._seen = anyio.current_time()
                        return await self._talk(client)
            except BaseExceptionGroup as group:
                if group.subgroup(httpx2.TransportError) is None:
                    raise
                self._check_hope(group)
            self._display.show("the connection broke, trying again")
            await anyio.sleep(_TRY_AGAIN_AFTER)

    def _check_hope(self, group: BaseExceptionGroup[Any]) -> None:
        if self._seen == float("-inf"):
            raise Unanswered(f"No MCP server answers at {self._url}.") from group
        if self._task_id is None:
            raise Unanswered(f"The connection to {self._url} broke before the call was answered.") from group
        if anyio.current_time() > self._seen + _RETURN_WITHIN:
            raise Unanswered(f"{self._url} does not answer any more. The task {self._task_id} may go on.") from group

    def _client(self) -> Client:
        return Client(
            self._url,
            client_info=Implementation(name="taskmill", version=version("taskmill")),
            elicitation_callback=self._elicit if self._asks else None,
            extensions=[TasksExtension(self._follow, self._follower.noticed)],
            cache=None,
        )

    async def _talk(self, client: Client) -> Ending:
        with self._attention.interruptible(), anyio.CancelScope(deadline=self._deadline) as limit:
            try:
                return await self._work(client)
            except _Detached:
                return Ending(task_id=self._task_id, leave=True)
            except MCPError as exc:
                if is_passing(exc):
                    raise Unanswered(exc.error.message) from exc
                return Ending(failed_result(exc.error.message), code=1)
        if limit.cancelled_caught:
            says = f"No result within {self._wish.timeout:g} seconds."
            return Ending(task_id=self._task_id, code=1, says=says)
        return await self._interrupted(client)

    async def _work(self, client: Client) -> Ending:
        if self._task_id is not None:
            result = await self._follower.follow(client.session, self._task_id)
        else:
            tool = await _find_tool(client, self._wish.tool)
            arguments = _arguments(tool, self._wish)
            self._display.show("")
            result = await client.call_tool(tool.name, arguments, progress_callback=self._show_progress)
        return Ending(result, code=1 if result.is_error else 0)

    async def _follow(self, session: ClientSession, task_id: str) -> CallToolResult:
        self._task_id = task_id
        if self._wish.detach:
            raise _Detached
        return await self._follower.follow(session, task_id)

    async def _show_progress(self, progress: float, total: float | None, message: str | None) -> None:
        words = message or (f"{progress:g} of {total:g}" if total else f"{progress:g} done")
        self._display.show(f"{words} ({int(100 * progress / total)}%)" if total else words)

    async def _elicit(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        self._display.pause()
        return await ask_person(params)

    async def _interrupted(self, client: Client) -> Ending:
        """Ctrl-C: ask what to do with the task. A second one, or no answer, leaves it running."""
        self._display.pause()
        if self._task_id is None:
            return Ending(code=INTERRUPTED, says="Interrupted.")
        if not self._asks:
            return Ending(task_id=self._task_id, code=INTERRUPTED, says="Interrupted.")
        wish = ""
        with self._attention.interruptible() as second:
            while wish not in ("c", "d"):
                reply = await read_line("\nCancel the task, or detach and leave it running? [c/d] ")
                wish = "d" if reply is None else reply.strip().lower()[:1]
        if second.cancelled_caught:
            self._display.note("")
        if wish == "c":
            try:
                await cancel_task(client.session, self._task_id)
            except MCPError as exc:
                return Ending(task_id=self._task_id, code=INTERRUPTED, says=f"Not cancelled: {exc.error.message}")
            return Ending(code=INTERRUPTED, says="The task was cancelled.")
        return Ending(task_id=self._task_id, code=INTERRUPTED, leave=True)


async def _find_tool(client: Client, name: str) -> Tool:
    tools: list[Tool] = []
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if not cursor:
            break
    for tool in tools:
        if tool.name == name:
            return tool
    listed = "".join(f"\n    {tool.name}  {_summary(tool)}".rstrip() for tool in tools)
    raise UsageFault(f"There is no tool {name!r}. The server has:{listed}" if tools else "The server has no tools.")


def _summary(tool: Tool) -> str:
    lines = (tool.description or "").strip().splitlines()
    return lines[0] if lines else ""


def _arguments(tool: Tool, wish: CallRequest) -> dict[str, Any]:
    schema = tool.input_schema
    arguments = parse_object(wish.arguments) if wish.arguments is not None else {}
    arguments |= parse_arguments(split_pairs(wish.words), schema)
    check_arguments(tool.name, arguments, schema)
    return arguments
