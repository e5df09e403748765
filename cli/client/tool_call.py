"""One call over the protocol, from the list of tools to the result.

The connection may break and come back while a task is followed: any replica can answer. Where the server runs, and what
is printed at the end, is decided in `call.py`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import anyio
import httpx2
from mcp.client import Client
from mcp.client.session import ClientRequestContext, ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ElicitRequestParams, ElicitResult, Implementation, Tool

from taskmill.cli.client.arguments import check_arguments, parse_arguments, parse_object, split_pairs
from taskmill.cli.client.elicitation import ask_person
from taskmill.cli.client.given_answers import answer_from
from taskmill.cli.client.task_follower import TaskFollower, is_temporary
from taskmill.cli.errors import INTERRUPTED, CommandFailed, Failure, ServerUnreachable, UsageError, unwrap_group
from taskmill.cli.terminal.input import InterruptHandler, is_interactive, read_line
from taskmill.cli.terminal.progress import Display
from taskmill.server.protocol.results import error_result
from taskmill.server.protocol.tasks_client import TasksClientExtension, cancel_task, get_task
from taskmill.server.tools.call_keys import meta_of_start

__all__ = ["CallOutcome", "CallRequest", "ToolCall"]

_RECONNECT_TIMEOUT = 30.0
"""Seconds that a broken connection may take to come back."""
_RECONNECT_DELAY = 0.5


@dataclass(frozen=True)
class CallRequest:
    """What to call, or which task to follow."""

    tool: str
    """Name of the tool; empty if a task is followed instead."""
    words: Sequence[str] = ()
    """Arguments as `key=value`."""
    arguments: str | None = None
    """Arguments as JSON."""
    attach: str | None = None
    """Id of a task to follow instead of a call."""
    answers: Sequence[str] = ()
    """Answers to the tool's questions as `key=value`; empty = a person is asked, if there is one."""
    detach: bool = False
    """Return as soon as the task exists, and leave it running."""
    timeout: float | None = None
    """Seconds to wait for the result, None = no limit."""
    token: str | None = field(default=None, repr=False)
    """Bearer token for the server."""
    start: Mapping[str, Any] = field(default_factory=dict)
    """`delay` or `not_before`; empty = the task starts at once."""


@dataclass(frozen=True)
class CallOutcome:
    """How the call ended."""

    result: CallToolResult | None = None
    """What the tool returned, None if the call did not wait for it."""
    task_id: str | None = None
    """The task, if the call became one and it may still be running."""
    exit_code: int = 0
    """Exit code."""
    detach: bool = False
    """The person wants the task to run on without this command."""
    message: str = ""
    """A message for the person, empty = none."""


class _Detached(Exception):
    """The call became a task, and the person does not want to wait for it."""


class ToolCall:
    """A client's side of one call."""

    def __init__(self, url: str, request: CallRequest, display: Display, interrupts: InterruptHandler) -> None:
        self._url = url
        self._request = request
        self._display = display
        self._interrupts = interrupts
        self._is_interactive = is_interactive()
        self._ask = self._give_answer if request.answers else (ask_person if self._is_interactive else None)
        self._follower = TaskFollower(display, self._ask)
        self._task_id = request.attach
        self._deadline = anyio.current_time() + (request.timeout or float("inf"))
        self._connected_at = float("-inf")
        """When the last connection was made."""

    async def run(self) -> CallOutcome:
        """Call the tool, or follow the task, until it ends.

        Raises:
            ServerUnreachable: the URL does not answer.
            UsageError: there is no such tool, or it takes other arguments.
            CommandFailed: the server refused.
        """
        while True:
            try:
                with unwrap_group():
                    async with self._client() as client:
                        self._connected_at = anyio.current_time()
                        return await self._run_connected(client)
            except BaseExceptionGroup as group:
                if (refusal := group.subgroup(MCPError)) is not None and self._connected_at == float("-inf"):
                    raise await self._no_endpoint(refusal) from group
                if group.subgroup(httpx2.TransportError) is None:
                    raise
                self._raise_if_lost(group)
            self._display.show("the connection broke, trying again")
            await anyio.sleep(_RECONNECT_DELAY)

    async def _no_endpoint(self, refusal: BaseException) -> CommandFailed:
        if await _refuses_token(self._url, self._request.token):
            words = f"{self._url} needs an access token: give --token, or set TASKMILL_TOKEN."
            if self._request.token is not None:
                words = (
                    f"{self._url} refuses the token of --token (TASKMILL_TOKEN): it has expired, or is not for this."
                )
            return CommandFailed(Failure(words, 1))
        while isinstance(refusal, BaseExceptionGroup):
            refusal = refusal.exceptions[0]
        return CommandFailed(
            Failure(f"{self._url} answers, but not as an MCP endpoint: {refusal}. An endpoint often ends in /mcp.", 1)
        )

    def _raise_if_lost(self, group: BaseExceptionGroup[Any]) -> None:
        if self._connected_at == float("-inf"):
            raise ServerUnreachable(f"No MCP server answers at {self._url}.") from group
        if self._task_id is None:
            raise ServerUnreachable(f"The connection to {self._url} broke before the call was answered.") from group
        if anyio.current_time() > self._connected_at + _RECONNECT_TIMEOUT:
            raise ServerUnreachable(
                f"{self._url} does not answer any more. The task {self._task_id} may go on."
            ) from group

    def _client(self) -> Client:
        token = self._request.token
        return Client(
            self._url if token is None else _with_token(self._url, token),
            client_info=Implementation(name="taskmill", version=version("taskmill")),
            elicitation_callback=None if self._ask is None else self._elicit,
            extensions=[TasksClientExtension(self._follow, self._follower.task_changed)],
            cache=None,
        )

    async def _run_connected(self, client: Client) -> CallOutcome:
        with self._interrupts.interruptible(), anyio.CancelScope(deadline=self._deadline) as limit:
            try:
                return await self._call_or_follow(client)
            except _Detached:
                return CallOutcome(task_id=self._task_id, detach=True)
            except MCPError as exc:
                if is_temporary(exc):
                    raise ServerUnreachable(exc.error.message) from exc
                return CallOutcome(error_result(exc.error.message), exit_code=1)
        if limit.cancelled_caught:
            message = f"No result within {self._request.timeout:g} seconds."
            return CallOutcome(task_id=self._task_id, exit_code=1, message=message)
        return await self._interrupted(client)

    async def _call_or_follow(self, client: Client) -> CallOutcome:
        if self._task_id is not None:
            result = await self._follower.follow(client.session, self._task_id)
        else:
            tool = await _find_tool(client, self._request.tool)
            arguments = _arguments(tool, self._request)
            self._display.show("")
            asked: Any = meta_of_start(self._request.start) or None
            result = await client.call_tool(tool.name, arguments, None, self._show_progress, meta=asked)
        return self._outcome(result)

    async def _follow(self, session: ClientSession, task_id: str) -> CallToolResult:
        self._task_id = task_id
        if self._request.detach:
            raise _Detached
        return await self._follower.follow(session, task_id)

    async def _show_progress(self, progress: float, total: float | None, message: str | None) -> None:
        words = message or (f"{progress:g} of {total:g}" if total else f"{progress:g} done")
        self._display.show(f"{words} ({int(100 * progress / total)}%)" if total else words)

    async def _elicit(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        assert self._ask is not None
        self._display.pause()
        return await self._ask(params)

    async def _give_answer(self, params: ElicitRequestParams) -> ElicitResult:
        question = params.model_dump(by_alias=True, mode="json", exclude_none=True)
        return ElicitResult.model_validate(answer_from(self._request.answers, question))

    async def _interrupted(self, client: Client) -> CallOutcome:
        """Ctrl-C: ask what to do with the task. A second one, or no answer, leaves it running."""
        self._display.pause()
        if self._task_id is None:
            return CallOutcome(exit_code=INTERRUPTED, message="Interrupted.")
        if not self._is_interactive:
            return CallOutcome(task_id=self._task_id, exit_code=INTERRUPTED, message="Interrupted.")
        choice = await self._ask_what_to_do(client.session, self._task_id)
        if choice == "c":
            try:
                await cancel_task(client.session, self._task_id)
                # It may have ended in the moment of the answer; a cancel is acknowledged all the same.
                if (await get_task(client.session, self._task_id)).status != "cancelled":
                    choice = "ended"
            except MCPError as exc:
                return CallOutcome(
                    task_id=self._task_id, exit_code=INTERRUPTED, message=f"Not cancelled: {exc.error.message}"
                )
        if choice == "ended":
            return self._outcome(await self._follower.follow(client.session, self._task_id))
        if choice == "c":
            return CallOutcome(exit_code=INTERRUPTED, message="The task was cancelled.")
        return CallOutcome(task_id=self._task_id, exit_code=INTERRUPTED, detach=True)

    async def _ask_what_to_do(self, session: ClientSession, task_id: str) -> str:
        """`c` = cancel, `d` = detach, also at the end of input; `ended` = the task has ended meanwhile.

        Empty after a second Ctrl-C.
        """
        choice = ""

        async def wait_for_end() -> None:
            nonlocal choice
            await self._follower.wait_for_end(session, task_id)
            choice = "ended"
            group.cancel_scope.cancel()

        with self._interrupts.interruptible() as second:
            async with anyio.create_task_group() as group:
                group.start_soon(wait_for_end)
                while choice not in ("c", "d"):
                    reply = await read_line("\nCancel the task, or detach and leave it running? [c/d] ")
                    choice = "d" if reply is None else reply.strip().lower()[:1]
                group.cancel_scope.cancel()
        if second.cancelled_caught or choice == "ended":
            self._display.print_line("")
        return choice

    def _outcome(self, result: CallToolResult) -> CallOutcome:
        return CallOutcome(result, exit_code=1 if result.is_error else 0)


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
    raise UsageError(f"There is no tool {name!r}. The server has:{listed}" if tools else "The server has no tools.")


def _summary(tool: Tool) -> str:
    lines = (tool.description or "").strip().splitlines()
    return lines[0] if lines else ""


def _arguments(tool: Tool, request: CallRequest) -> dict[str, Any]:
    schema = tool.input_schema
    arguments = parse_object(request.arguments) if request.arguments is not None else {}
    arguments |= parse_arguments(split_pairs(request.words), schema)
    check_arguments(tool.name, arguments, schema)
    return arguments


@asynccontextmanager
async def _with_token(url: str, token: str) -> AsyncIterator[Any]:
    """The SDK's transport, with a bearer token."""
    async with (
        httpx2.AsyncClient(headers=_authorization(token), timeout=httpx2.Timeout(30, read=300)) as http,
        streamable_http_client(url, http_client=http) as streams,
    ):
        yield streams


def _authorization(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}


async def _refuses_token(url: str, token: str | None) -> bool:
    """Whether a server refuses requests with this token, or without one; the client's own error does not say."""
    try:
        async with httpx2.AsyncClient(timeout=5, headers=_authorization(token)) as http:
            return (await http.post(url, json={})).status_code == httpx2.codes.UNAUTHORIZED
    except httpx2.HTTPError:
        return False
