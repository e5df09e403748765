"""A server whose users are whoever their token says."""

from collections import deque
from typing import Any

from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings

__all__ = ["guarded_options"]


class Tokens:
    """Verifies tokens of the form `issuer/client/subject/scope scope`, and remembers the latest it was shown."""

    def __init__(self) -> None:
        self.seen: deque[str] = deque(maxlen=1000)

    async def verify_token(self, token: str) -> AccessToken | None:
        """The token's principal; None for anything else."""
        self.seen.append(token)
        parts = token.split("/")
        if len(parts) not in (3, 4):
            return None
        issuer, client, subject, *scopes = parts
        granted = scopes[0].split() if scopes else []
        return AccessToken(token=token, client_id=client, scopes=granted, subject=subject, claims={"iss": issuer})


def guarded_options(**auth: Any) -> dict[str, Any]:
    """Arguments of a server that wants a token."""
    settings = {
        "issuer_url": "http://127.0.0.1:1",
        "resource_server_url": "http://127.0.0.1:2/mcp",
        "validate_token_resource": False,
        **auth,
    }
    return {"token_verifier": Tokens(), "auth": AuthSettings.model_validate(settings)}
