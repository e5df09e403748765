"""What operators see of queues, tools, workers and webhooks, and do to them. For the work: `operations.py`."""

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from taskmill.engine.errors import BadArguments
from taskmill.server.api.access import caller_of
from taskmill.server.api.bulk import Bulk
from taskmill.server.api.operations import Operations
from taskmill.server.api.requests import body_of, json_response, number_of, task_id_of
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.store.tasks.pauses import Pausable
from taskmill.store.webhooks.deliveries import MOST_LISTED

__all__ = ["operation_routes"]

log = structlog.get_logger()
_OPERATORS_ONLY = "This is for operators: send the operator's token (TASKMILL_API_OPERATOR_TOKEN)."


def operation_routes(runtime: ServerRuntime) -> list[BaseRoute]:
    """The routes, below `/api`."""
    api = _Operations(runtime)
    return [
        Route("/queues", api.queues, methods=["GET"]),
        Route("/queues/{name}/pause", api.pause_queue, methods=["POST"]),
        Route("/queues/{name}/resume", api.resume_queue, methods=["POST"]),
        Route("/tools", api.tools, methods=["GET"]),
        Route("/tools/{name}/pause", api.pause_tool, methods=["POST"]),
        Route("/tools/{name}/resume", api.resume_tool, methods=["POST"]),
        Route("/schedules", api.schedules, methods=["GET"]),
        Route("/workers", api.workers, methods=["GET"]),
        Route("/workers/{name}/drain", api.drain, methods=["POST"]),
        Route("/workers/{name}/resume", api.undrain, methods=["POST"]),
        Route("/workers/{name}/slots", api.set_slots, methods=["POST"]),
        Route("/webhooks", api.webhooks, methods=["GET"]),
        Route("/webhooks/retry", api.retry_webhooks, methods=["POST"]),
        Route("/webhooks/{task_id}/retry", api.retry_webhook, methods=["POST"]),
        Route("/bulk", api.count_for_bulk, methods=["POST"]),
        Route("/bulk/run", api.run_bulk, methods=["POST"]),
    ]


class _Operations:
    def __init__(self, runtime: ServerRuntime) -> None:
        self._runtime = runtime

    async def queues(self, request: Request) -> Response:
        """The queues of this server's tools and of live workers."""
        operations = self._for_operators(request)
        return json_response({"queues": await operations.queues() if operations else []})

    async def tools(self, request: Request) -> Response:
        """The task tools of this server and of live workers."""
        operations = self._for_operators(request)
        return json_response({"tools": await operations.tools() if operations else []})

    async def schedules(self, request: Request) -> Response:
        """The schedules of this server's tools that workers have."""
        operations = self._for_operators(request)
        return json_response({"schedules": await operations.schedules() if operations else []})

    async def workers(self, request: Request) -> Response:
        """The live workers of this server."""
        operations = self._for_operators(request)
        return json_response({"workers": await operations.workers() if operations else []})

    async def pause_queue(self, request: Request) -> Response:
        """Start no task of a queue from now on."""
        return await self._pause(request, Pausable.QUEUE)

    async def resume_queue(self, request: Request) -> Response:
        """Start tasks of a queue again."""
        return await self._resume(request, Pausable.QUEUE)

    async def pause_tool(self, request: Request) -> Response:
        """Start no task of a tool from now on."""
        return await self._pause(request, Pausable.TOOL)

    async def resume_tool(self, request: Request) -> Response:
        """Start tasks of a tool again."""
        return await self._resume(request, Pausable.TOOL)

    async def drain(self, request: Request) -> Response:
        """Have a worker, or all of a host, take no tasks."""
        operations, reason = self._acting(request), (await body_of(request, ("reason",))).get("reason")
        return json_response(await operations.drain(str(request.path_params["name"]), _reason(reason)))

    async def undrain(self, request: Request) -> Response:
        """Have a worker, or all of a host, take tasks again."""
        return json_response(await self._acting(request).undrain(str(request.path_params["name"])))

    async def set_slots(self, request: Request) -> Response:
        """Have a worker, or each of a host, run so many tasks at a time."""
        operations, body = self._acting(request), await body_of(request, ("slots", "reason"))
        if "slots" not in body:
            raise BadArguments("The body must have slots: a whole number, or null for the number that is configured.")
        name, reason = str(request.path_params["name"]), _reason(body.get("reason"))
        return json_response(await operations.set_slots(name, body["slots"], reason))

    async def webhooks(self, request: Request) -> Response:
        """The webhooks of this server that are not delivered."""
        operations, limit = self._for_operators(request), number_of(request, "limit", 100, least=1, most=MOST_LISTED)
        state = request.query_params.get("state", "")
        return json_response({"webhooks": await operations.webhooks(state, limit) if operations else []})

    async def retry_webhook(self, request: Request) -> Response:
        """Try the webhook of a task again now."""
        operations = self._acting(request)
        return json_response(await operations.retry_webhook(task_id_of(request)))

    async def retry_webhooks(self, request: Request) -> Response:
        """Try all webhooks again that were given up."""
        return json_response(await self._acting(request).retry_webhooks())

    async def count_for_bulk(self, request: Request) -> Response:
        """How many tasks there are to cancel or repeat, and a token to do it with."""
        self._acting(request)
        body = await body_of(request, ("action", "where", "all"))
        where = body.get("where", {})
        if not isinstance(where, dict):
            raise BadArguments("where must be an object: the words of a filter.")
        every = body.get("all") is True
        return json_response(await Bulk(self._runtime.store).count(str(body.get("action")), where, every=every))

    async def run_bulk(self, request: Request) -> Response:
        """Cancel or repeat a page of the tasks that were counted."""
        self._acting(request)
        body = await body_of(request, ("token",))
        done = await Bulk(self._runtime.store).run(str(body.get("token")))
        log.info("bulk.page_done", action=done["action"], done=done["done"], failed=len(done["failed"]))
        return json_response(done)

    async def _pause(self, request: Request, kind: Pausable) -> Response:
        operations = self._acting(request)
        body = await body_of(request, ("reason",))
        reason = _reason(body.get("reason"))
        name = str(request.path_params["name"])
        shown = await operations.pause(kind, name, reason)
        log.info("pause.begun", kind=kind, name=name, reason=reason)
        return json_response(shown)

    async def _resume(self, request: Request, kind: Pausable) -> Response:
        name = str(request.path_params["name"])
        shown = await self._acting(request).resume(kind, name)
        log.info("pause.ended", kind=kind, name=name)
        return json_response(shown)

    def _acting(self, request: Request) -> Operations:
        if (operations := self._for_operators(request)) is None:
            raise HTTPException(404, "This server keeps no tasks, so it has no queues.")
        return operations

    def _for_operators(self, request: Request) -> Operations | None:
        """None: this server has no store, as it has no task tools.

        Raises:
            HTTPException: 403, it is no operator's request.
        """
        if not caller_of(request).is_operator:
            raise HTTPException(403, _OPERATORS_ONLY)
        if not self._runtime.keeps_tasks:
            return None
        queues = {name: policy.queue for name, policy in self._runtime.tools.policies().items()}
        by = caller_of(request).name
        return Operations(self._runtime.store, self._runtime.settings.app or "", queues, by=by)


def _reason(given: object) -> str:
    if not isinstance(given, str | None):
        raise BadArguments("reason must be a text.")
    return given or ""
