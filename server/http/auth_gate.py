"""ASGI middleware around all that checks tokens: refusals say why and name what to ask for, an outage is a 503."""

import json
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskmill.engine.errors import AuthenticationUnavailable
from taskmill.server.auth.refusals import noting_refusal, why_refused
from taskmill.server.http.middleware import path_of

__all__ = ["AuthGate"]

_INTERNAL_ERROR = -32603
_RETRY_AFTER = 5
_REFUSALS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_WITHOUT_REASON = "Authentication required"
"""What the SDK says of every token that it does not accept, and of none."""
_NO_TOKEN = "This server needs an access token: send Authorization: Bearer TOKEN."  # noqa: S105  # words, no secret


class AuthGate:
    """Around the SDK's check of tokens, and FastMCP's: whatever they refuse, the client learns how to do better."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        required: Sequence[str],
        offered: Callable[[], Sequence[str]],
        metadata_url: Callable[[Scope], str | None],
    ) -> None:
        """`required`: scopes of every request; `offered`: those that tools ask for besides.

        `metadata_url`: where the resource's metadata are (RFC 9728), None = nowhere.
        """
        self._app = app
        self._required = tuple(required)
        self._offered = offered
        self._metadata_url = metadata_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held: Message | None = None

        async def send_with_words(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and _is_challenge(message):
                held = message
            elif held is not None:
                start, held = held, None
                for one in self._improved(scope, start, message):
                    await send(one)
            else:
                await send(message)

        with noting_refusal():
            try:
                await self._app(scope, receive, send_with_words)
            except AuthenticationUnavailable as exc:
                await _unavailable(exc, path_of(scope))(scope, receive, send)

    def _improved(self, scope: Scope, start: Message, body: Message) -> tuple[Message, Message]:
        headers = MutableHeaders(raw=list(start["headers"]))
        challenge = headers["www-authenticate"]
        has_token = "authorization" in Headers(scope=scope)
        words = why_refused() if has_token else _NO_TOKEN
        if start["status"] == HTTPStatus.UNAUTHORIZED and words:
            challenge = challenge.replace(f'"{_WITHOUT_REASON}"', f'"{words}"')
            body = {**body, "body": _with_words(body.get("body", b""), words)}
            headers["content-length"] = str(len(body["body"]))
        parts = [challenge]
        if "scope=" not in challenge and (scopes := self._scopes(start["status"])):
            parts.append(f'scope="{" ".join(scopes)}"')
        if "resource_metadata=" not in challenge and (url := self._metadata_url(scope)):
            parts.append(f'resource_metadata="{url}"')
        separator = " " if challenge.strip().lower() == "bearer" else ", "
        headers["www-authenticate"] = parts[0] + "".join(
            (separator if at == 0 else ", ") + part for at, part in enumerate(parts[1:])
        )
        return {**start, "headers": headers.raw}, body

    def _scopes(self, status: int) -> tuple[str, ...]:
        """For a new token all scopes: a tool whose scope is missing is not even listed, so no one would ask for it."""
        more = self._offered() if status == HTTPStatus.UNAUTHORIZED else ()
        return tuple(dict.fromkeys((*self._required, *more)))


def _is_challenge(start: Message) -> bool:
    challenge = Headers(raw=start["headers"]).get("www-authenticate", "")
    return start["status"] in _REFUSALS and challenge.lower().startswith("bearer")


def _with_words(body: bytes, words: str) -> bytes:
    """The body of a refusal, of the SDK or of the HTTP API, with the reason in place of none."""
    try:
        answer: Any = json.loads(body)
    except ValueError:
        return body
    if isinstance(answer, dict) and answer.get("error_description") == _WITHOUT_REASON:
        answer["error_description"] = words
    elif isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        error = answer["error"]
        if error.get("message") == _WITHOUT_REASON:
            error["message"] = words
    return json.dumps(answer).encode()


def _unavailable(exc: AuthenticationUnavailable, path: str) -> JSONResponse:
    """503, in the form of the part of the server that was asked."""
    words = str(AuthenticationUnavailable())  # what exactly failed is for the log: it may name an inner address
    headers = {"Retry-After": str(exc.facts.get("retry_after", _RETRY_AFTER)), "Cache-Control": "no-store"}
    body: dict[str, Any] = {"jsonrpc": "2.0", "id": None, "error": {"code": _INTERNAL_ERROR, "message": words}}
    if path.startswith(("/api/", "/metrics")):
        body = {"error": {"code": "authentication_unavailable", "message": words}}
    return JSONResponse(body, HTTPStatus.SERVICE_UNAVAILABLE, headers)
