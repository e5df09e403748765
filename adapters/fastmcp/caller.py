"""Who called a tool of a FastMCP server: kept with the task, and restored in its worker, without what would let another
one act as the caller.

The token is left out, and every header and claim that holds it; so are headers that carry credentials by their name.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from fastmcp.server.auth import AccessToken
from fastmcp.server.context import TransportType, reset_transport, set_transport
from fastmcp.server.dependencies import extract_version_spec, get_access_token, get_context, get_http_headers
from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp_types import CallToolRequestParams

from taskmill.adapters.fastmcp.fastmcp_private import carried_caller

__all__ = ["PAYLOAD_KEY", "as_operator", "caller_of_call", "kept_version", "restored_caller", "version_of"]

PAYLOAD_KEY = "fastmcp"
"""The name of this record in a task's payload."""
_CREDENTIALS = re.compile(r"authorization|cookie|token|secret|password|passwd|api-?key|credential|mcp-session-id")
_SHORTEST_FOUND = 8
"""Characters of a token that is looked for inside of texts; a shorter one has to be the whole text."""
_META = ("fastmcp", "client_id")
"""What FastMCP reads of a request's `_meta` in a worker."""


def caller_of_call(params: CallToolRequestParams, *, with_token: bool) -> dict[str, Any]:
    """The caller of the present request, as JSON. `with_token`: with the token itself."""
    context = get_context()
    kept: dict[str, Any] = {}
    if context.transport is not None:
        kept["transport"] = context.transport
    token = get_access_token()
    if token is not None:
        kept["token"] = token.model_dump(mode="json") if with_token else _without_secret(token)
    secret = None if token is None or with_token else token.token
    if headers := _harmless(get_http_headers(include_all=True), secret):
        kept["headers"] = headers
    with suppress(RuntimeError):  # a call without a session
        kept["session_id"] = context.session_id
        kept["request_id"] = context.request_id
    meta: Mapping[str, Any] = params.meta or {}
    if carried := {name: meta[name] for name in _META if name in meta}:
        kept["meta"] = carried
    return kept


def version_of(params: CallToolRequestParams) -> str | None:
    """The version of the tool that a call names, None = the newest."""
    return extract_version_spec(dict(params.meta or {}))


def kept_version(kept: Mapping[str, Any]) -> str | None:
    """The same, of a call whose caller was kept."""
    return extract_version_spec(kept.get("meta"))


@contextmanager
def restored_caller(kept: Mapping[str, Any]) -> Iterator[None]:
    """Run the block as a call of this caller: token, headers, session and transport are found as in its request."""
    who = kept.get("token")
    user = None if who is None else AuthenticatedUser(AccessToken.model_validate(who))
    with ExitStack() as stack:
        token = auth_context_var.set(user)
        stack.callback(auth_context_var.reset, token)
        stack.enter_context(carried_caller(kept.get("headers"), kept.get("session_id")))
        if (transport := kept.get("transport")) is not None:
            stack.enter_context(_over(transport))
        yield


@contextmanager
def as_operator() -> Iterator[None]:
    """Run the block without a caller's rights and limits: FastMCP checks none on stdio."""
    with _over("stdio"):
        yield


@contextmanager
def _over(transport: TransportType) -> Iterator[None]:
    token = set_transport(transport)
    try:
        yield
    finally:
        reset_transport(token)


def _without_secret(token: AccessToken) -> dict[str, Any]:
    """The token with its caller's identity, which is never left out, and without what another one could send."""
    kept = token.model_dump(mode="json", exclude={"token"})
    return {**kept, "claims": _pruned(kept.get("claims"), token.token), "token": ""}


def _harmless(headers: Mapping[str, str], secret: str | None) -> dict[str, str]:
    return {
        name: value
        for name, value in headers.items()
        if not _CREDENTIALS.search(name) and not (secret and _holds(value, secret))
    }


def _pruned(value: Any, secret: str) -> Any:
    """The same without entries whose text holds the token: a verifier may put it into the claims as well."""
    match value:
        case dict():
            return {name: _pruned(one, secret) for name, one in value.items() if not _holds(one, secret)}
        case list():
            return [_pruned(one, secret) for one in value if not _holds(one, secret)]
        case _:
            return value


def _holds(value: Any, secret: str) -> bool:
    # A token of a few letters, as in a test, is part of many words.
    return isinstance(value, str) and (value == secret or (len(secret) >= _SHORTEST_FOUND and secret in value))
