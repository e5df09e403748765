"""Reads a body as one JSON-RPC message, and refuses a request at the HTTP level."""

from http import HTTPStatus
from typing import Any

from mcp_types import INVALID_REQUEST, PARSE_ERROR, JSONRPCMessage, JSONRPCNotification, jsonrpc_message_adapter
from starlette.responses import JSONResponse, Response

from taskmill.store.formats.json_text import read_json

__all__ = ["HttpError", "error_response", "parse_message"]


class HttpError(Exception):
    """A request that is answered at the HTTP level, with a JSON-RPC error that has no id."""

    def __init__(self, status: HTTPStatus, message: str, code: int = INVALID_REQUEST) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def parse_message(body: bytes) -> JSONRPCMessage:
    """The message of a body.

    Raises:
        HttpError: the body is no message, or a batch of them.
    """
    try:
        raw = read_json(body)
    except (ValueError, RecursionError):
        raise HttpError(HTTPStatus.BAD_REQUEST, "The body is not JSON.", PARSE_ERROR) from None
    try:
        message = jsonrpc_message_adapter.validate_python(raw, by_name=False)
        if isinstance(message, JSONRPCNotification) and "id" in raw:
            raise ValueError("a request whose id cannot be one")
        return message
    except ValueError:
        raise HttpError(HTTPStatus.BAD_REQUEST, "The body is not one JSON-RPC message.") from None


def error_response(status: HTTPStatus, message: str, code: int, data: dict[str, Any] | None = None) -> Response:
    """An HTTP response with a JSON-RPC error that belongs to no request."""
    error = {"code": code, "message": message} if data is None else {"code": code, "message": message, "data": data}
    return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, status_code=status)
