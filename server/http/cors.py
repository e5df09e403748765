"""Which pages of other origins may use this server from a browser: CORS for the MCP endpoint and the HTTP API.

Whether a request's Origin is accepted at all is decided in `transport_security.py`, which knows the same origins.
"""

import re
from collections.abc import Sequence
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from taskmill.engine.errors import UnsafeBinding
from taskmill.server.http.transport_security import ANY
from taskmill.store.setting_names import setting_example, setting_name

__all__ = ["Cors", "check_any_origin"]

_METHODS = ("GET", "POST", "DELETE")
_EXPOSED = (
    *("Mcp-Session-Id", "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "WWW-Authenticate", "Retry-After"),
    *("ETag", "Content-Disposition", "Content-Range", "Accept-Ranges", "Location"),
)
"""Headers of responses that a page may read: the transport's, those of a refusal, those of an artifact."""


def check_any_origin(origins: Sequence[str], *, has_auth: bool) -> None:
    """Refuse to open a server without authentication to the pages of all sites.

    Raises:
        UnsafeBinding: `origins` has `*`, and requests need no token.
    """
    if ANY in origins and not has_auth:
        raise UnsafeBinding(
            f"{setting_name('cors_origins')} '*' on a server without authentication lets every page that a user opens "
            f"run its tools. Name the origins, such as {setting_example('cors_origins', 'http://localhost:6274')}."
        )


class Cors(CORSMiddleware):
    """Answers preflights with 204, and lets pages of the given origins read responses.

    Every request header is allowed, because `Mcp-Param-*` and a client's own are not known before. Cookies are not:
    a page sends its token itself, in `Authorization`.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        """`origins`: as `transport_security` takes them."""
        exact = [origin for origin in origins if not origin.endswith(":*")]
        of_any_port = [re.escape(origin.removesuffix("*")) + "[0-9]+" for origin in origins if origin.endswith(":*")]
        super().__init__(
            app,
            allow_origins=exact,
            allow_origin_regex="|".join(of_any_port) or None,
            allow_methods=_METHODS,
            allow_headers=["*"],
            allow_private_network=True,
            expose_headers=_EXPOSED,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """204 for an allowed origin; for another one a 400 without any permission."""
        response = super().preflight_response(request_headers)
        if response.status_code != HTTPStatus.OK:
            return response
        headers = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
