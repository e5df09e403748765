"""Who owns a task: a digest of the caller's identity, or the anonymous owner; and how much one owner may have.

Tokens never get here.
"""

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass

__all__ = ["ANONYMOUS", "LOCAL", "SCHEDULE", "PrincipalLimits", "as_task_id", "new_task_id", "principal_of"]

ANONYMOUS = "anonymous"
"""The one owner of everything created without authentication; it may list nothing."""

LOCAL = "local"
"""The user of this machine, who started the server over stdio."""


SCHEDULE = "schedule"
"""The owner of what tools with a schedule do by themselves; only operators see it."""


def principal_of(issuer: str | None, client_id: str | None, subject: str | None) -> str:
    """SHA-256 of the canonical JSON of [issuer, client_id, subject], as 64 hex digits."""
    identity = json.dumps([issuer, client_id, subject], separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()  # a claim may hold half a pair


def new_task_id() -> str:
    """A new id of 256 random bits (43 URL-safe characters): it cannot be guessed, so it may serve as a bearer token."""
    return as_task_id(secrets.token_bytes(32))


def as_task_id(bits: bytes) -> str:
    """Bytes as URL-safe characters. The first is never `-`: a command line would read that as an option."""
    text = base64.urlsafe_b64encode(bits).decode().rstrip("=")
    return f"_{text[1:]}" if text.startswith("-") else text


@dataclass(frozen=True, slots=True)
class PrincipalLimits:
    """Limits of one principal; 0 = no limit."""

    open_tasks: int = 0
    """Tasks that have not ended."""
    running_tasks: int = 0
    """Tasks that run at the same time, of tools without a lane of their own; more wait."""
    kept_tasks: int = 0
    """Tasks that have ended and can still be read."""
    kept_bytes: int = 0
    """Arguments, results and histories of tasks, as long as they can be read."""
    sessions: int = 0
    """Open sessions of protocol revisions before 2026."""
    creations: float = 0
    """Calls of task tools a second that one replica accepts, on average."""
    requests: float = 0
    """Requests a second that one replica answers, on average."""
    open_requests: int = 0
    """Requests that one replica serves at the same time, streams and held calls included."""
