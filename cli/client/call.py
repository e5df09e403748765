"""`taskmill call`: finds or makes a server, has the conversation, prints what came of it.

Standard output carries the result and nothing else: text as the tool wrote it, or JSON. The rest is standard error.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from taskmill.cli.client.local_stack import LocalStack, local_stack
from taskmill.cli.errors import Failure, show
from taskmill.cli.logs import LogLevel
from taskmill.cli.terminal.input import CancelPrompt
from taskmill.cli.terminal.progress import display_for
from taskmill.workers.settings import WorkerSettings

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from taskmill.cli.client.tool_call import Ending

__all__ = ["Call", "call"]


@dataclass(frozen=True)
class Call:
    """What the command line says."""

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
    level: LogLevel

    @property
    def way_back(self) -> str:
        """How to attach to the same server."""
        return f"--url {self.url}" if self.url else str(self.file)


async def call(wanted: Call, settings: WorkerSettings) -> int:
    """Do it; returns the exit code.

    Raises:
        TaskmillError: it did not come to a call.
    """
    attention = CancelPrompt()
    display = display_for(wanted.tool or "task")
    try:
        async with AsyncExitStack() as stack:
            stack.callback(display.close)
            # Imported while the server starts: the protocol's library alone takes a second.
            importing = asyncio.create_task(asyncio.to_thread(import_module, "taskmill.cli.client.tool_call"))
            place = await _place(stack, wanted, settings, display.note)
            await importing
            from taskmill.cli.client.tool_call import CallRequest, ToolCall

            wish = CallRequest(
                wanted.tool, wanted.words, wanted.arguments, wanted.attach, wanted.detach, wanted.timeout
            )
            ending = await ToolCall(place.url, wish, display, attention).hold()
            display.close()
            _tell(ending, wanted)
            place.hurry = ending.result is None
            if ending.leave:
                await place.leave(settings.home)
            return ending.code
    except asyncio.CancelledError:
        if attention.ended_by is None:
            raise
        return 128 + attention.ended_by


def _tell(ending: "Ending", wanted: Call) -> None:
    if ending.result is not None:
        _print_result(ending.result, as_json=wanted.as_json)
    if ending.says:
        show(Failure(ending.says, ending.code))
    if ending.task_id is not None:
        if wanted.detach and ending.leave:
            print(ending.task_id, flush=True)
        state = "goes on" if ending.leave or wanted.url else "waits for the next worker"
        again = f"taskmill call --attach {ending.task_id} {wanted.way_back}"
        print(f"taskmill: The task {state}. To follow it: {again}", file=sys.stderr, flush=True)


async def _place(
    stack: AsyncExitStack, wanted: Call, settings: WorkerSettings, say: Callable[[str], None]
) -> LocalStack:
    if wanted.url is not None:
        return LocalStack(wanted.url)
    assert wanted.file is not None
    return await stack.enter_async_context(local_stack(wanted.file, settings, wanted.redis_url, wanted.level, say))


def _print_result(result: "CallToolResult", *, as_json: bool) -> None:
    if as_json:
        print(result.model_dump_json(by_alias=True, exclude_none=True, indent=2), flush=True)
        return
    texts = [content.text for content in result.content if content.type == "text"]
    if result.is_error:
        show(Failure("\n".join(texts) or "The tool reported an error without a text.", 1))
        return
    if texts:
        print("\n".join(texts))
    elif result.structured_content is not None:
        print(json.dumps(result.structured_content, indent=2, ensure_ascii=False))
    others = [content.type for content in result.content if content.type != "text"]
    if others:
        kinds = ", ".join(others)
        print(f"taskmill: The result also has content that is no text ({kinds}): --json shows it.", file=sys.stderr)
    sys.stdout.flush()
