"""`GET /api/audit`: the audit trail in Redis, for operators, page by page."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from taskmill.server.api.access import caller_of
from taskmill.server.api.requests import json_response, number_of
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.store.audit.records import Action, record
from taskmill.store.audit.stream import LONGEST_AUDIT_PAGE, AuditFilter, since_of
from taskmill.store.formats.audit_sinks import REDIS, sinks_of

__all__ = ["audit_routes"]

_PAGE = 100
_OPERATORS_ONLY = "The audit trail is of all callers: send the operator's token (TASKMILL_API_OPERATOR_TOKEN)."
_NOT_KEPT = "This server keeps no audit trail that can be read here: TASKMILL_AUDIT says where it goes (docs/audit.md)."


def audit_routes(runtime: ServerRuntime) -> list[BaseRoute]:
    """The route, below `/api`."""

    async def show(request: Request) -> Response:
        """Records that are wanted: newest first from `cursor` on, or oldest first behind `after`."""
        if not caller_of(request).is_operator:
            raise HTTPException(403, _OPERATORS_ONLY)
        if not runtime.keeps_tasks or not any(kind == REDIS for kind, _ in sinks_of(runtime.settings.audit)):
            raise HTTPException(404, _NOT_KEPT)
        given = request.query_params
        since = given.get("since")
        wanted = AuditFilter(
            who=given.get("who"),
            action=given.get("action"),
            outcome=given.get("outcome"),
            task=given.get("task"),
            since_ms=None if since is None else since_of(since),
        )
        limit = number_of(request, "limit", _PAGE, least=1, most=LONGEST_AUDIT_PAGE)
        page = await runtime.store.audit.page(wanted, limit=limit, before=given.get("cursor"), after=given.get("after"))
        if "after" not in given:  # who follows the trail would otherwise be what it shows
            record(Action.AUDIT_READ)
        return json_response({"records": page.records, "next_cursor": page.next})

    return [Route("/audit", show, methods=["GET"])]
