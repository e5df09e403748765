"""Templates to pages: the environment, and the headers of every response of the console."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from taskmill.console.shown import FILTERS

__all__ = ["SECURITY_HEADERS", "fragment", "page"]

_FOLDER = Path(__file__).parent
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer, forms would be sent with the Origin null
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Nothing from elsewhere is loaded, nothing inline runs, and no other page frames these."""


@cache
def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= FILTERS
    return found


def fragment(name: str, facts: Mapping[str, Any]) -> str:
    """A part of a page as HTML. `name`: of the template, without its ending."""
    return _environment().get_template(f"{name}.html").render(**facts)


def page(request: Request, template: str, /, *, status: int = 200, **facts: Any) -> HTMLResponse:
    """A whole page for this request. Every template has `base`, the path of the console, `path`, `login` and `note`."""
    scope = request.scope
    shared = {
        "base": scope.get("root_path", ""),
        "path": request.url.path.removeprefix(scope.get("root_path", "")),
        "login": getattr(request.state, "login", None),
        "note": _NOTES.get(request.query_params.get("done", ""), ""),
    }
    return HTMLResponse(fragment(template, {**shared, **facts}), status, {"Cache-Control": "no-store"})


_NOTES = {
    "cancelled": "The task was cancelled.",
    "ended": "The task had already ended.",
    "rerun": "The task runs again, as this one.",
    "answered": "The answer was given.",
    "paused": "Paused: no task of it starts from now on. Running ones go on.",
    "resumed": "Resumed.",
    "retried": "Tried again now. A webhook that is delivered is not in this list any more.",
    "drain": "The worker takes no more tasks.",
    "resume": "The worker takes tasks again.",
    "slots": "The worker runs so many tasks at a time from now on.",
}
"""What is shown once after an action; the address names it, so its words are here and not there."""
