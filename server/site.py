"""What stands beside the MCP endpoint in one HTTP application, and what every request passes first."""

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.types import ASGIApp

from taskmill.server.api.access import Access, OperatorToken
from taskmill.server.api.health import health_routes
from taskmill.server.api.metrics import Requests, metrics_routes
from taskmill.server.api.openapi import description_route
from taskmill.server.api.routes import api_routes
from taskmill.server.http.middleware import ClientDisconnects
from taskmill.server.http.transport_security import TrimmedHeaders
from taskmill.server.tools.runtime import ServerRuntime

__all__ = ["furnish"]


def furnish(
    app: Starlette,
    runtime: ServerRuntime,
    access: Access,
    *,
    mcp_path: str,
    operator_token: str | None,
    front: Callable[[ASGIApp], ASGIApp] | None,
) -> None:
    """Add health, the API, its description and metrics to the application of the endpoint at `mcp_path`.

    `front`: what may answer a request before the rest sees it; its answers are counted, its hang-ups caught.
    """
    requests = Requests(mcp_path)
    described = [*api_routes(runtime, access), *metrics_routes(runtime, access, requests)]
    routes = [*health_routes(runtime), description_route(access), *described]
    app.router.routes.extend(routes)
    if operator_token is not None:
        app.add_middleware(OperatorToken, token=operator_token)
    app.add_middleware(TrimmedHeaders)
    if front is not None:
        app.add_middleware(front)
    app.add_middleware(ClientDisconnects)
    app.add_middleware(requests.counting)
