"""Errors of callers that the SDK treats as crashes of the server, and logs with what was sent, or does not explain.

It can go when the SDK itself refuses these requests: trace headers that are no text, prompts that do not exist, and
arguments that a prompt does not have; when it names the field that is wrong; and when no one sends pydantic's text.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver.prompts import PromptManager
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS
from mcp_types.methods import SPEC_CLIENT_METHODS
from pydantic import ValidationError

from taskmill.server.protocol.arguments import in_own_words
from taskmill.server.protocol.invalid_params import invalid_params

__all__ = ["CallerErrors"]

_TRACE = ("traceparent", "tracestate", "baggage")
_REFUSALS = ("Unknown prompt: ", "Missing required arguments: ")
Request = ServerRequestContext[Any, Any]


class CallerErrors:
    """Server middleware, before all others."""

    def __init__(self, prompts: PromptManager | None) -> None:
        """`prompts`: of a server of the SDK; another framework checks their arguments itself."""
        self._prompts = prompts

    async def __call__(self, ctx: Request, call_next: CallNext) -> HandlerResult:
        """Pass the request on, without trace headers that cannot be read.

        Raises:
            MCPError: a parameter is wrong; there is no such prompt, or no such argument of it, or it lacks one.
        """
        if ctx.request_id is None and ctx.method in SPEC_CLIENT_METHODS:
            return None  # a notification with the method of a request: no one would receive the error
        if ctx.method == "prompts/get":
            self._refuse_unknown(ctx.params or {})
        try:
            return await call_next(_readable(ctx))
        except ValidationError as exc:
            if (error := invalid_params(exc, ctx.params)) is not None:
                raise error from None
            raise
        except MCPError as exc:
            words = in_own_words(exc.message, exc)
            if words == exc.message:
                raise
            raise MCPError(exc.code, words, exc.data) from exc
        except ValueError as exc:
            if ctx.method == "prompts/get" and str(exc).startswith(_REFUSALS):
                raise MCPError(INVALID_PARAMS, str(exc)) from exc
            raise

    def _refuse_unknown(self, params: Mapping[str, Any]) -> None:
        name, arguments = params.get("name"), params.get("arguments")
        prompt = self._prompts.get_prompt(name) if self._prompts is not None and isinstance(name, str) else None
        if prompt is None or not isinstance(arguments, dict):
            return
        known = {argument.name for argument in prompt.arguments or ()}
        if unknown := sorted(arguments.keys() - known):
            has = f"it has {', '.join(sorted(known))}" if known else "it has none"
            raise MCPError(INVALID_PARAMS, f"The prompt {name} has no argument {unknown[0]!r}: {has}.")


def _readable(ctx: Request) -> Request:
    meta: dict[str, Any] = {**(ctx.meta or {})}
    unread = {name for name in _TRACE if name in meta and not isinstance(meta[name], str)}
    if not unread:
        return ctx
    kept: Any = {name: value for name, value in meta.items() if name not in unread}
    return replace(ctx, meta=kept)
