"""Tokens for FastMCP servers under test: two users of one client, told apart by a claim only."""

from fastmcp.server.auth import AccessToken, TokenVerifier

__all__ = ["ANN", "BOB", "Verifier"]

ANN, BOB = "secret-token-of-ann", "secret-token-of-bob"


class Verifier(TokenVerifier):
    """Knows Ann, who may write, and Bob. As some verifiers do, it sets no subject."""

    async def verify_token(self, token: str) -> AccessToken | None:
        """The token of one of the two."""
        users = {ANN: ("ann", ["read", "write"]), BOB: ("bob", ["read"])}
        if token not in users:
            return None
        name, scopes = users[token]
        claims = {"sub": name, "team": "blue", "raw": f"Bearer {token}"}
        return AccessToken(token=token, client_id="one-client", scopes=scopes, claims=claims)
