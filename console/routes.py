"""The console as an ASGI application: its routes, and who may use them."""

from pathlib import Path
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskmill.console.actions import Actions
from taskmill.console.login import Logins
from taskmill.console.pages import Pages
from taskmill.console.rendering import SECURITY_HEADERS, page
from taskmill.console.tasks import ConsoleTasks
from taskmill.engine.errors import TaskmillError
from taskmill.server.api.errors import status_of
from taskmill.server.auth.operators import Operators
from taskmill.server.protocol.errors import text_for_client
from taskmill.server.streams.event_stream import MAY_READ_ON

__all__ = ["console_mount"]

_STATIC = Path(__file__).parent / "static"
_OPEN = ("/login", "/static/")


def console_mount(
    tasks: ConsoleTasks, operators: Operators, *, path: str = "/console", lasts: float = 28800
) -> BaseRoute:
    """The console below a path of an application that checks Host and Origin, and recognises tokens of operators.

    `lasts`: seconds until an operator has to log in again.
    """
    logins = Logins(operators, lasts=lasts)
    pages, actions = Pages(tasks, logins), Actions(tasks)
    app = Starlette(
        routes=[
            Route("/", pages.overview),
            Route("/login", pages.login, methods=["GET", "POST"]),
            Route("/logout", pages.logout, methods=["POST"]),
            Route("/tasks", pages.tasks),
            Route("/dead-letters", pages.dead_letters),
            Route("/tasks/{task_id}", pages.task),
            Route("/tasks/{task_id}/part", pages.task_part),
            Route("/tasks/{task_id}/live", pages.task_live),
            Route("/tasks/{task_id}/answer", actions.answer, methods=["POST"]),
            Route("/tasks/{task_id}/arguments", pages.arguments),
            Route("/artifacts/{artifact_id}", pages.artifact),
            Route("/tasks/{task_id}/{action:str}", actions.one, methods=["GET", "POST"]),
            Route("/bulk/{action:str}", actions.bulk, methods=["GET", "POST"]),
            Route("/queues", pages.queues),
            Route("/schedules", pages.schedules),
            Route("/webhooks", pages.webhooks),
            Route("/webhooks/retry", actions.retry_webhooks, methods=["GET", "POST"]),
            Route("/webhooks/{task_id}/retry", actions.retry_webhook, methods=["GET", "POST"]),
            Route("/workers", pages.workers),
            Route("/workers/{name:path}/{action:str}", actions.worker, methods=["GET", "POST"]),
            Route("/{kind:str}/{name:path}/pause", actions.pause, methods=["GET", "POST"]),
            Route("/{kind:str}/{name:path}/resume", actions.resume, methods=["POST"]),
            Route("/settings", pages.settings),
            Route("/live/{part:str}", pages.live),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        exception_handlers={TaskmillError: _taskmill_error, HTTPException: _http_error, Exception: _unexpected_error},
    )
    return Mount(path, _ConsoleGuard(app, tasks, logins))


class _ConsoleGuard:
    """Lets operators pass, leads others to the login, and refuses what pages of other sites send."""

    def __init__(self, app: ASGIApp, tasks: ConsoleTasks, logins: Logins) -> None:
        self._app = app
        self._tasks = tasks
        self._logins = logins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it; every response has the headers of the console."""
        if scope["type"] != "http":
            return
        sending = _with_headers(send)
        try:
            refused = await self._refusal(Request(scope))
        except TaskmillError as exc:
            refused = await _taskmill_error(Request(scope), exc)
        await (refused or self._app)(scope, receive, sending)

    async def _refusal(self, request: Request) -> Response | None:
        path = request.url.path.removeprefix(request.scope.get("root_path", ""))
        is_reading = request.method in ("GET", "HEAD")
        if not is_reading and not _is_of_this_site(request.headers):
            return PlainTextResponse("This was sent by a page of another site. Nothing was done.", 403)
        if path.startswith(_OPEN):
            return None
        login = await self._logins.of(request, self._tasks.store())
        if login is None:
            return _login_again(request, path, is_reading=is_reading)
        request.state.login = login
        if login.may_read_on is not None:
            request.scope[MAY_READ_ON] = login.may_read_on
        if is_reading or login.may_act or path == "/logout":
            return None
        return page(
            request,
            "problem",
            status=403,
            title="Not allowed",
            words="Your token has the role read. To change anything needs the role act.",
        )


def _login_again(request: Request, path: str, *, is_reading: bool) -> Response:
    if "text/html" not in request.headers.get("accept", ""):
        return PlainTextResponse("Log in again.", 401)
    base = request.scope.get("root_path", "")
    back = path + (f"?{request.url.query}" if request.url.query else "") if is_reading else "/"
    ended = "" if is_reading else "&ended=1"
    return RedirectResponse(f"{base}/login?next={quote(back)}{ended}", 303)


def _is_of_this_site(headers: Headers) -> bool:
    """Whether a page of this very origin sent it. Browsers name the origin of every form and of every fetch."""
    origin = headers.get("origin", "")
    return origin.partition("://")[2] == headers.get("host", "") != ""


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)  # a file of a tool has a stricter policy
        await send(message)

    return send_with_headers


async def _taskmill_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, TaskmillError)
    status, _ = status_of(exc)
    words = text_for_client(exc, path=request.url.path)
    return page(request, "problem", status=status, title=_TITLES.get(status, "That did not work"), words=words)


_TITLES = {404: "Not found", 503: "Redis does not answer"}


async def _http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    return page(request, "problem", status=exc.status_code, title="Not found", words=exc.detail)


async def _unexpected_error(request: Request, _exc: Exception) -> Response:
    words = "An error of the server, which its log has."  # the server logs the traceback itself
    return page(request, "problem", status=500, title="That did not work", words=words)
