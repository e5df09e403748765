"""How long the token of the present request is good: what is sent because of it ends with it."""

import time

from mcp.server.auth.middleware.auth_context import get_access_token

__all__ = ["seconds_left", "sooner"]


def seconds_left() -> float | None:
    """Seconds until the request's token expires, at least 0; None = it has none, or one without an end."""
    token = get_access_token()
    return None if token is None or token.expires_at is None else max(0.0, token.expires_at - time.time())


def sooner(seconds: float | None, *, margin: float = 0.0) -> float | None:
    """`seconds`, or those until `margin` after the end of the token if that comes first; None = without an end."""
    left = seconds_left()
    if left is None:
        return seconds
    return left + margin if seconds is None else min(seconds, left + margin)
