"""`taskmill call`: finds or starts a server, calls the tool, and prints the result.

Standard output has the result and nothing else: text as the tool wrote it, or JSON. The rest goes to standard error.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from taskmill.adapters.remote.target import shown
from taskmill.cli.client.local_stack import LocalStack, local_stack
from taskmill.cli.errors import Failure, print_failure
from taskmill.cli.imports import without_collection
from taskmill.cli.logs import LogForm, LogLevel
from taskmill.cli.processes.prepared import PreparedProcess
from taskmill.cli.server_address import endpoint_of
from taskmill.cli.terminal.escaping import printable, printable_json
from taskmill.cli.terminal.input import InterruptHandler
from taskmill.cli.terminal.progress import display_for
from taskmill.workers.settings import WorkerSettings

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from taskmill.cli.client.tool_call import CallOutcome

__all__ = ["CallOptions", "call_tool"]


WholeId = Callable[[str, str | None, str | None, WorkerSettings], Awaitable[str]]
"""The whole id of a task by its beginning, at this URL with this token, or in the Redis of the settings."""


@dataclass(frozen=True)
class CallOptions:
    """The options of the command line."""

    file: str | None
    url: str | None
    tool: str
    words: tuple[str, ...]
    arguments: str | None
    attach: str | None
    detach: bool
    timeout: float | None
    as_json: bool
    redis_url: str | None
    level: LogLevel | None
    """None: warnings of Taskmill and of libraries, and what the author's own loggers write from INFO on."""
    form: LogForm = LogForm.AUTO
    answers: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)
    start: Mapping[str, Any] = field(default_factory=dict)
    """`delay` or `not_before`; empty = the task starts at once."""

    @property
    def server_words(self) -> str:
        """The words that name the same server again."""
        return f"--url {self.url}" if self.url else shown(str(self.file))


async def call_tool(
    options: CallOptions, settings: WorkerSettings, whole_id: WholeId, prepared: Sequence[PreparedProcess] = ()
) -> int:
    """Call the tool, or follow a task; returns the exit code. `prepared`: processes for the server and the worker.

    `whole_id`: finds the id of the task to follow, once its Redis is there.

    Raises:
        TaskmillError: the tool could not be called.
    """
    interrupts = InterruptHandler()
    display = display_for(options.tool or "task")
    try:
        async with AsyncExitStack() as exit_stack:
            exit_stack.callback(display.close)
            # Imported while the server starts: the protocol's library alone takes a second.
            importing = asyncio.create_task(asyncio.to_thread(_import_client))
            local = await _stack_for(exit_stack, options, settings, prepared, display.print_line)
            await importing
            from taskmill.cli.client.tool_call import CallRequest, ToolCall

            attach = options.attach and await whole_id(options.attach, options.url, options.token, settings)
            request = CallRequest(
                options.tool,
                options.words,
                options.arguments,
                attach,
                options.answers,
                options.detach,
                options.timeout,
                options.token,
                options.start,
            )
            outcome = await ToolCall(local.url, request, display, interrupts).run()
            display.close()
            _report(outcome, options)
            local.release_tasks = outcome.result is None
            if outcome.detach:
                await local.detach(settings.home)
            return outcome.exit_code
    except asyncio.CancelledError:
        if interrupts.ended_by_signal is None:
            raise
        return 128 + interrupts.ended_by_signal


def _import_client() -> None:
    with without_collection():
        import_module("taskmill.cli.client.tool_call")


def _report(outcome: "CallOutcome", options: CallOptions) -> None:
    if outcome.result is not None:
        _print_result(outcome.result, as_json=options.as_json)
    if outcome.message:
        print_failure(Failure(outcome.message, outcome.exit_code))
    if outcome.task_id is not None:
        if options.detach and outcome.detach:
            print(outcome.task_id, flush=True)
        state = "continues" if outcome.detach or options.url else "waits for the next worker"
        again = f"taskmill call --attach {outcome.task_id} {options.server_words}"
        print(f"taskmill: The task {state}. To follow it: {again}", file=sys.stderr, flush=True)


async def _stack_for(
    exit_stack: AsyncExitStack,
    options: CallOptions,
    settings: WorkerSettings,
    prepared: Sequence[PreparedProcess],
    on_line: Callable[[str], None],
) -> LocalStack:
    if options.url is not None:
        return LocalStack(endpoint_of(options.url))
    assert options.file is not None
    return await exit_stack.enter_async_context(
        local_stack(
            options.file,
            settings,
            options.redis_url,
            on_line,
            level=options.level,
            form=options.form,
            prepared=prepared,
        )
    )


def _print_result(result: "CallToolResult", *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result.model_dump(mode="json", by_alias=True, exclude_none=True), indent=2), flush=True)
        return
    texts = [content.text for content in result.content if content.type == "text"]
    if result.is_error:
        print_failure(Failure("\n".join(texts) or "The tool reported an error without a text.", 1))
        return
    if texts:
        print(printable("\n".join(texts), lines=True))
    elif result.structured_content is not None:
        print(printable_json(result.structured_content))
    others = [content.type for content in result.content if content.type != "text"]
    if others:
        kinds = printable(", ".join(others))
        print(f"taskmill: The result also has content that is no text ({kinds}): --json shows it.", file=sys.stderr)
    sys.stdout.flush()
