"""ASGI middleware behind the check of tokens: how many requests a caller sends, and how many are open at a time.

Without authentication all callers are one, and nothing is counted.
"""

from collections import Counter

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from taskmill.engine.errors import QuotaExceeded
from taskmill.engine.principal import ANONYMOUS, PrincipalLimits
from taskmill.server.auth.principal import owner
from taskmill.server.http.middleware import path_of
from taskmill.server.limits.rates import Rates
from taskmill.server.protocol.errors import wire_error
from taskmill.server.tools.runtime import ServerRuntime

__all__ = ["RequestRates"]


class RequestRates:
    """Answers 429 to a caller that sends too much (RFC 6585, section 4)."""

    def __init__(self, app: ASGIApp, runtime: ServerRuntime) -> None:
        self._app = app
        self._runtime = runtime
        self._rates = Rates("requests", "requests")
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        who = owner() if scope["type"] == "http" else ANONYMOUS
        if who == ANONYMOUS:
            await self._app(scope, receive, send)
            return
        try:
            self._check(who, self._runtime.limits_of(who))
        except QuotaExceeded as exc:
            self._runtime.note_refusal(exc)
            await _refusal(exc, scope)(scope, receive, send)
            return
        self._runtime.large_work.note(who)
        self._open[who] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open[who] -= 1
            if not self._open[who]:
                del self._open[who]

    def _check(self, who: str, limits: PrincipalLimits) -> None:
        most, used = limits.open_requests, self._open[who]
        if most and used >= most:
            words = f"{used:,} requests of yours are open, the limit. Close streams, or follow several tasks on one."
            raise QuotaExceeded(words, limit="open_requests", allowed=most, used=used, retry_after=5)
        self._rates.take(who, limits.requests)


def _refusal(exc: QuotaExceeded, scope: Scope) -> JSONResponse:
    """In the form of the part that was asked: the HTTP API, or the MCP endpoint."""
    headers = {"retry-after": str(exc.facts["retry_after"])}
    if path_of(scope).startswith("/api/"):
        return JSONResponse({"error": {"code": "quota", "message": str(exc)}}, 429, headers)
    code, data = wire_error(exc)
    error = {"code": code, "message": str(exc), "data": data}
    return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, 429, headers)
