"""Any verifier, an author's or ours, with what must hold for all: it fails in words, and its tokens name their user."""

import time
from enum import StrEnum

import structlog
from mcp.server.auth.provider import AccessToken, TokenVerifier

from taskmill.engine.errors import AuthenticationUnavailable
from taskmill.server.auth.claims import NO_SUBJECT
from taskmill.server.auth.principal import identity_of
from taskmill.server.auth.refusals import refused

__all__ = ["CheckedVerifier", "ClientTokens"]

log = structlog.get_logger()

_LOG_EVERY = 60.0


class ClientTokens(StrEnum):
    """What becomes of a token that names no user: all who use its client would be one caller."""

    REFUSE = "refuse"
    WARN = "warn"
    """Accept it, and log that once."""
    ACCEPT = "accept"


class CheckedVerifier:
    """A verifier for the SDK, around another one."""

    def __init__(self, verifier: TokenVerifier, client_tokens: ClientTokens) -> None:
        self.verifier = verifier
        self._client_tokens = client_tokens
        self._warned: set[str] = set()
        self._logged_at = float("-inf")

    async def verify_token(self, token: str) -> AccessToken | None:
        """The token, with its user as `subject` also where only its claims name it; None if it is not good.

        Raises:
            AuthenticationUnavailable: the verifier could not tell.
        """
        try:
            found = await self.verifier.verify_token(token)
        except AuthenticationUnavailable:
            raise
        except Exception as exc:
            self._log_failure(exc)
            raise AuthenticationUnavailable from exc
        return None if found is None else self._checked(found)

    def _checked(self, token: AccessToken) -> AccessToken | None:
        _, issuer, subject = identity_of(token)
        if issuer is None:
            self._warn_once(
                "auth.token_without_issuer",
                "users of two issuers with the same sub are one caller: let the verifier return claims={'iss': ...}",
            )
        if not subject:
            if self._client_tokens is ClientTokens.REFUSE:
                refused(NO_SUBJECT)
                return None
            if self._client_tokens is ClientTokens.WARN:
                self._warn_once(
                    "auth.token_without_subject",
                    "all who use one client are one caller, and see each other's tasks: let the verifier return "
                    "subject=..., or set TASKMILL_AUTH_ALLOW_CLIENT_TOKENS to true or false",
                )
            return token
        return token if token.subject == subject else token.model_copy(update={"subject": subject})

    def _warn_once(self, event: str, hint: str) -> None:
        if event not in self._warned:
            self._warned.add(event)
            log.warning(event, verifier=type(self.verifier).__name__, hint=hint)

    def _log_failure(self, exc: Exception) -> None:
        """Log the traceback of a verifier that raises, once a minute: every request of an outage meets it."""
        now = time.monotonic()
        first = now - self._logged_at >= _LOG_EVERY
        if first:
            self._logged_at = now
        log.error("auth.verifier_failed", why=type(exc).__name__, exc_info=exc if first else None)
