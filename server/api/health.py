"""Two endpoints for those who run the replicas: is this process alive, and can it serve."""

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from taskmill.engine.errors import StoreFull, TaskmillError
from taskmill.server.api.shapes import unreachable_json
from taskmill.server.tools.runtime import ServerRuntime

__all__ = ["health_routes"]


def health_routes(runtime: ServerRuntime) -> list[Route]:
    """`/healthz`: the process answers. `/readyz`: its store answers too, if it needs one, and has room; else 503.

    A shard that does not answer is only named: the tasks of the others are served.
    """

    async def healthz(_request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def readyz(_request: Request) -> JSONResponse:
        if not runtime.keeps_tasks:
            return JSONResponse({"status": "ready"})
        try:
            await runtime.store.ping()
            missing = await runtime.store.unreachable()
            await runtime.store.check_room()
        except StoreFull as exc:
            return JSONResponse({"status": "full", "detail": str(exc)}, status_code=503)
        except TaskmillError as exc:
            body = {"status": "unavailable", "detail": type(exc).__name__}
            # The address of a Redis is not for everyone; what the application forgot is.
            cause = {} if runtime.was_opened else {"cause": runtime.lifespan_missing}
            return JSONResponse({**body, **cause}, status_code=503)
        return JSONResponse({"status": "ready", **unreachable_json(missing)})

    return [Route("/healthz", healthz, methods=["GET"]), Route("/readyz", readyz, methods=["GET"])]
