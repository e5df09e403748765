"""What stands beside the MCP endpoint in one HTTP application, and what every request passes first."""

from starlette.applications import Starlette

from windlass.server.api import api_routes
from windlass.server.api_access import Access, OperatorToken
from windlass.server.desk import Desk
from windlass.server.health import health_routes
from windlass.server.metrics import Requests, metrics_routes
from windlass.server.security import TrimmedHeaders

__all__ = ["furnish"]


def furnish(app: Starlette, desk: Desk, access: Access, *, mcp_path: str, operator_token: str | None) -> None:
    """Add health, the API and metrics to the application of the endpoint at `mcp_path`."""
    requests = Requests(mcp_path)
    routes = [*health_routes(desk), *api_routes(desk, access), *metrics_routes(desk, access, requests)]
    app.router.routes.extend(routes)
    if operator_token is not None:
        app.add_middleware(OperatorToken, token=operator_token)
    app.add_middleware(TrimmedHeaders)
    app.add_middleware(requests.counting)
