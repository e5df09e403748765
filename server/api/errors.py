"""The one table from Taskmill's errors to HTTP statuses, and the one shape of an error of the HTTP API."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from taskmill.engine.errors import (
    BadCursor,
    CallerError,
    NameUnknown,
    NotRepeatable,
    PayloadTooLarge,
    QuotaExceeded,
    ScopeMissing,
    StoreFull,
    StoreUnavailable,
    TaskmillError,
    TaskNotFound,
)
from taskmill.server.api.requests import JsonReply
from taskmill.server.protocol.errors import INTERNAL, text_for_client

__all__ = ["api_error", "error_handlers", "status_of"]

_STATUSES: dict[type[TaskmillError], tuple[int, str]] = {
    TaskNotFound: (404, "not_found"),
    NameUnknown: (404, "not_found"),
    BadCursor: (400, "bad_cursor"),
    NotRepeatable: (409, "not_repeatable"),
    QuotaExceeded: (429, "quota"),
    PayloadTooLarge: (413, "too_large"),
    ScopeMissing: (403, "insufficient_scope"),
    CallerError: (400, "bad_request"),
    StoreFull: (503, "store_full"),
    StoreUnavailable: (503, "store_unavailable"),
    TaskmillError: (500, "internal"),
}
"""Error class -> status and code; the first class of the error's ancestry that is listed counts."""


def api_error(status: int, message: str, *, code: str = "", headers: dict[str, str] | None = None) -> JSONResponse:
    """An error reply; `code` is the status's own name unless it is given."""
    name = code or HTTPStatus(status).name.lower()
    return JsonReply({"error": {"code": name, "message": message}}, status_code=status, headers=headers)


def status_of(error: TaskmillError) -> tuple[int, str]:
    """Status and code of an error."""
    return next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)


async def _taskmill_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, TaskmillError)
    status, code = status_of(exc)
    retries = status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)
    headers = {"Retry-After": str(exc.facts.get("retry_after", 1))} if retries else None
    return api_error(status, text_for_client(exc, path=request.url.path), code=code, headers=headers)


async def _http_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    return api_error(exc.status_code, exc.detail, headers=dict(exc.headers or {}))


async def _unexpected_error(_request: Request, _exc: Exception) -> Response:
    return api_error(500, INTERNAL, code="internal")  # the server logs the traceback itself


error_handlers = {TaskmillError: _taskmill_error, HTTPException: _http_error, Exception: _unexpected_error}
"""For a Starlette application."""
