"""`/api/openapi.json`: what the HTTP API takes and answers, for programs that make clients, pages and tests from it.

The description is written by hand in `openapi.json`, and tests hold it against the routes and the answers.
"""

from functools import cache
from importlib import resources

from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from taskmill.server.api.access import Access, Guard

__all__ = ["description_route"]


def description_route(access: Access) -> Route:
    """The route. Any caller may read it: all of it is in the documentation too."""
    return Route("/api/openapi.json", Guard(_describe, Access(access.hosts)), methods=["GET"])


async def _describe(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(_text(), media_type="application/json")(scope, receive, send)


@cache
def _text() -> bytes:
    return (resources.files("taskmill.server.api") / "openapi.json").read_bytes()
