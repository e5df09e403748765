"""What an operator should know of a server's authentication before its first request: at the start, and in `doctor`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from taskmill.server.auth.settings import AuthenticationSettings
from taskmill.server.http.transport_security import is_local
from taskmill.server.tool_host import ToolHost

__all__ = ["Advice", "VerifiesTokens", "auth_advice"]


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to know."""

    event: str
    """Its name in the log."""
    found: str
    remedy: str


@runtime_checkable
class VerifiesTokens(Protocol):
    """A server whose author's code may verify tokens."""

    def auth_doubts(self) -> Sequence[str]:
        """What that code leaves open as far as one can see from outside; empty = nothing, or there is no such code."""


def auth_advice(server: ToolHost, settings: AuthenticationSettings, host: str) -> Iterator[Advice]:
    """What is dangerous, or without effect. `host`: the address that the server listens on."""
    if not server.has_auth and not is_local(host):
        yield Advice(
            "auth.open",
            f"listens on {host} without authentication: all who reach it may call every tool, and see each task whose "
            "id they know",
            "set TASKMILL_AUTH_ISSUER and TASKMILL_AUTH_AUDIENCE, or let only a proxy that authenticates reach it",
        )
    doubts = server.auth_doubts() if isinstance(server, VerifiesTokens) else ()
    for doubt in doubts:
        yield Advice("auth.doubtful", doubt, "let the verifier check it, or let TASKMILL_AUTH_* verify tokens")
    if settings.auth_allow_client_tokens:
        yield Advice(
            "auth.client_tokens",
            "tokens that name no user are accepted: all who use one client are one caller, and see each other's tasks",
            "unset TASKMILL_AUTH_ALLOW_CLIENT_TOKENS if clients have more than one user",
        )
