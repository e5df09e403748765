"""What callers and operators read when a server behind Taskmill fails. Never the query of an address, or a header."""

import socket
import ssl
from collections.abc import Iterator

import httpx2
from fastmcp.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED

__all__ = ["GONE", "UpstreamLost", "UpstreamUnreachable", "cause_of", "not_repeated", "task_forgotten", "wrong_answer"]

_LONGEST = 300
GONE = (httpx2.HTTPError, OSError, RuntimeError)
"""What a transport raises when the connection ends, beside the SDK's own error."""


class UpstreamUnreachable(ToolError):
    """No connection to the server could be made: nothing has been called."""

    def __init__(self, label: str, cause: BaseException, status: int | None = None, *, has_token: bool = False) -> None:
        """`status`: of HTTP, where the server refused. `has_token`: a token was sent to it."""
        self.why = why_unreachable(cause, status, has_token=has_token)
        """What is wrong, and what an operator may do."""
        super().__init__(f"The server {label!r} behind this one cannot be reached: {self.why}. Try again later.")


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


def why_unreachable(cause: BaseException, status: int | None = None, *, has_token: bool = False) -> str:
    """Why there is no connection, and what to look at; without a full stop."""
    if status is not None and status >= httpx2.codes.BAD_REQUEST:
        return _refusals(status, has_token=has_token)
    behind = [cause, *_causes(cause)]
    text = cause_of(cause)
    for kind, words in _REASONS:
        if any(isinstance(one, kind) for one in behind):
            return words.format(text)
    if "content type" in text:
        return f"it answers as no MCP server does ({text}): the address of one often ends in /mcp"
    if any(isinstance(one, MCPError) and one.error.code == CONNECTION_CLOSED for one in behind):
        return "it ended before it answered: what it printed, on standard error, may say why"
    return text


def _refusals(status: int, *, has_token: bool) -> str:
    match status:
        case 401:
            if has_token:
                return "it refuses the token (401) of TASKMILL_UPSTREAM_TOKEN or --upstream-header"
            return "it wants a token (401): set TASKMILL_UPSTREAM_TOKEN, or give --upstream-header"
        case 403:
            return "it refuses access (403): the token may lack a right"
        case 404 | 405 | 410:
            return f"there is no MCP endpoint at this address ({status}): it often ends in /mcp"
        case 429:
            return "it has had too many requests (429)"
        case _:
            return f"it answers with HTTP status {status}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """What an error came from, at most a few of them: they may stand in a circle."""
    for _ in range(12):
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        error = None if error is None else error.__cause__ or error.__context__
        if error is None:
            return
        yield error


_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (FileNotFoundError, "{}: check the word behind `--`, and that it is installed for this user"),
    (ssl.SSLCertVerificationError, "its certificate is not trusted ({}): let SSL_CERT_FILE name its authority's"),
    (ssl.SSLError, "it does not speak TLS there ({}): an address with http:// may be meant"),
    (socket.gaierror, "no machine has this name ({}): check the address"),
    (ConnectionRefusedError, "nothing listens at this address: start the server first"),
    (ConnectionResetError, "it closed the connection: an address with https:// may be meant"),
    (
        TimeoutError,
        "it did not answer in time: it may not be an MCP server, or need longer to start",
    ),
)
"""What an operator can do about an error, by its kind; `{}` is its own text."""


def cause_of(error: BaseException) -> str:
    """One line about an error, without what FastMCP puts around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = str(error).removeprefix("Client failed to connect:").strip() or type(error).__name__
    line = " ".join(text.split())
    return line[:_LONGEST].rstrip(".")
