"""The one table from our errors to JSON-RPC errors. Nothing else in the project knows a wire code.

`taskmill tasks` shows these errors without a server, so the SDK, whose import takes a second, is
imported only where one is raised.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog

from taskmill.engine.errors import (
    BadArguments,
    BadCursor,
    CallerError,
    PayloadTooLarge,
    QuotaExceeded,
    ScopeMissing,
    StoreFull,
    StoreUnavailable,
    TaskmillError,
    TaskNotFound,
)
from taskmill.engine.outcome import Failed, Refused
from taskmill.store.audit.records import record_refusal_of

if TYPE_CHECKING:
    from mcp.shared.exceptions import MCPError

__all__ = [
    "INTERNAL",
    "error_of",
    "header_mismatch",
    "method_not_found",
    "scope_data",
    "text_for_client",
    "wire_error",
    "wire_errors",
]

log = structlog.get_logger()

# The SDK's constants; a test holds that they are the same.
HEADER_MISMATCH = -32020
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
INTERNAL = "The server could not do this. Its log says why."
"""All that a client reads of an error that is neither its own nor an outage."""
_CODES: dict[type[TaskmillError], tuple[int, dict[str, Any] | None]] = {
    TaskNotFound: (INVALID_PARAMS, None),  # tasks extension, "Protocol Errors"
    BadArguments: (INVALID_PARAMS, None),
    BadCursor: (INVALID_PARAMS, None),  # 2025-11-25, tasks/list and "Pagination"
    PayloadTooLarge: (INVALID_PARAMS, None),
    QuotaExceeded: (INTERNAL_ERROR, {"retryable": True, "reason": "quota"}),
    ScopeMissing: (INVALID_REQUEST, None),
    CallerError: (INVALID_PARAMS, None),
    StoreFull: (INTERNAL_ERROR, {"retryable": True, "reason": "store_full"}),
    StoreUnavailable: (INTERNAL_ERROR, {"retryable": True, "reason": "store_unavailable"}),
    TaskmillError: (INTERNAL_ERROR, None),
}
"""Error class -> code and `data`; of the error's base classes the first one in the table counts."""
_LIMIT_DATA = {"limit": "limit", "allowed": "allowed", "used": "used", "retry_after": "retryAfter"}
"""Facts of a refusal -> their names in `data`."""
_SHOWN = (CallerError, StoreUnavailable)
"""Errors whose text is meant for the client."""


@contextmanager
def wire_errors() -> Iterator[None]:
    """Turns our errors inside into the SDK's `MCPError`, which goes out as a JSON-RPC error.

    Raises:
        MCPError: an error of ours was raised.
    """
    try:
        yield
    except TaskmillError as exc:
        from mcp.shared.exceptions import MCPError

        code, data = wire_error(exc)
        raise MCPError(code, text_for_client(exc), data) from exc


def wire_error(exc: TaskmillError) -> tuple[int, dict[str, Any] | None]:
    """Code and `data` of an error of ours."""
    code, data = next(_CODES[kind] for kind in type(exc).__mro__ if kind in _CODES)
    if isinstance(exc, ScopeMissing):
        return code, scope_data(exc)
    if isinstance(exc, QuotaExceeded | StoreFull):
        facts = {name: exc.facts[fact] for fact, name in _LIMIT_DATA.items() if fact in exc.facts}
        return code, {**(data or {}), **facts}
    return code, data


def text_for_client(exc: TaskmillError, **facts: Any) -> str:
    """The text of an error that a client may read; an error that is not the caller's is logged with these facts."""
    if isinstance(exc, CallerError):
        record_refusal_of(exc)
    else:
        log.error("request.failed", error=type(exc).__name__, detail=str(exc), **facts)
    return str(exc) if isinstance(exc, _SHOWN) else INTERNAL


def scope_data(missing: ScopeMissing) -> dict[str, Any]:
    """What a client needs in order to ask its user for more scopes."""
    return {"reason": "insufficient_scope", "scopes": missing.facts.get("scopes", [])}


def error_of(outcome: Refused | Failed) -> dict[str, Any]:
    """The JSON-RPC error object of a failed task: the tool's own error, or what broke."""
    if isinstance(outcome, Refused):
        error: dict[str, Any] = {"code": outcome.code, "message": outcome.message}
        return error if outcome.data is None else {**error, "data": outcome.data}
    data = {"reason": outcome.fault.value}
    if outcome.reference:
        data["reference"] = outcome.reference
    return {"code": INTERNAL_ERROR, "message": outcome.text, "data": data}


def header_mismatch(text: str) -> "MCPError":
    """-32020: a routing header contradicts the body (streamable HTTP, routing headers)."""
    from mcp.shared.exceptions import MCPError

    return MCPError(HEADER_MISMATCH, text)


def method_not_found(text: str) -> "MCPError":
    """-32601: not available to this client."""
    from mcp.shared.exceptions import MCPError

    return MCPError(METHOD_NOT_FOUND, text)
