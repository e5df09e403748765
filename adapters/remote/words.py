"""What callers and operators read when a server behind Taskmill fails. Never the query of an address, or a header."""

import httpx2
from fastmcp.exceptions import ToolError

__all__ = ["GONE", "UpstreamLost", "UpstreamUnreachable", "cause_of", "not_repeated", "task_forgotten", "wrong_answer"]

_LONGEST = 300
GONE = (httpx2.HTTPError, OSError, RuntimeError)
"""What a transport raises when the connection ends, beside the SDK's own error."""


class UpstreamUnreachable(ToolError):
    """No connection to the server could be made: nothing has been called."""

    def __init__(self, label: str, cause: BaseException) -> None:
        super().__init__(f"The server {label!r} behind this one cannot be reached: {cause_of(cause)}. Try again later.")


class UpstreamLost(ToolError):
    """The connection ended during a call."""

    def __init__(self, label: str, tool: str, cause: BaseException) -> None:
        super().__init__(
            f"The server {label!r} behind this one ended, or its connection did, while {tool!r} ran: {cause_of(cause)}."
            " The call may have taken effect: check before you call it again."
        )


def not_repeated(tool: str) -> ToolError:
    """The failure of a call whose first worker died under it."""
    return ToolError(
        f"The worker that held this call of {tool!r} died or was stopped, and the call is not made a second time: it "
        "may have taken effect. Check before you call it again. A tool that is annotated readOnlyHint or "
        f"idempotentHint is repeated; the operator allows it for others with --repeat {tool} (TASKMILL_REPEAT)."
    )


def task_forgotten(label: str, tool: str) -> ToolError:
    """The failure of a call whose task the server has lost."""
    return ToolError(
        f"The server {label!r} behind this one made a task of this call of {tool!r}, and no longer knows it: it has "
        "been restarted, or the task has expired. The call may have taken effect: check before you call it again."
    )


def wrong_answer(label: str, tool: str) -> ToolError:
    """The failure of a call whose answer is not one of the protocol."""
    return ToolError(
        f"The server {label!r} behind this one answered a call of {tool!r} with what is no result of a tool. "
        "The call may have taken effect."
    )


def cause_of(error: BaseException) -> str:
    """One line about an error, without what FastMCP puts around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = str(error).removeprefix("Client failed to connect:").strip() or type(error).__name__
    line = " ".join(text.split())
    return line[:_LONGEST].rstrip(".")
