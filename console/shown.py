"""How values look on the pages: times, durations, JSON, and texts that tools and callers wrote. No I/O."""

from typing import Any

from markupsafe import Markup, escape

from taskmill.engine.artifact import ARTIFACT_URI
from taskmill.store.formats.escaping import printable, printable_json
from taskmill.store.formats.queue_names import is_under_development

__all__ = ["FILTERS", "artifact_links"]

_NOTHING = "\N{EN DASH}"
_LONGEST = 200_000
"""Characters of one value on a page; what is longer is cut, and says so."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def text(value: object) -> str:
    """One line of a text that someone else wrote: control characters and half characters are shown, not sent."""
    return printable("" if value is None else _whole(str(value)))


def lines(value: object) -> str:
    """A text with its line ends."""
    return printable("" if value is None else _cut(_whole(str(value))), lines=True)


def pretty(value: Any) -> str:
    """JSON for reading."""
    return _cut(_whole(printable_json(value)))


def moment(value: str | None) -> Markup | str:
    """A time as the API gives it; a browser shows it in the time zone of its reader."""
    if value is None:
        return _NOTHING
    shown = value.replace("T", " ").partition(".")[0].removesuffix("Z")
    return Markup('<time datetime="{}">{} UTC</time>').format(value, shown)


def duration(seconds: float | None) -> str:
    """How long: 0.25 s, 12 s, 3 min 5 s, 2 h 4 min, 3 d 2 h."""
    if seconds is None:
        return _NOTHING
    whole = int(seconds)
    if seconds < 10:
        return f"{seconds:.2f} s"
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def app_name(app: str) -> str:
    """The name of a server; one under development has a digest in its place."""
    return "under development" if is_under_development(app) else text(app)


def short_id(task_id: str) -> str:
    """Enough of an id to tell tasks apart."""
    return text(task_id[:10])


def state(task: dict[str, Any]) -> str:
    """The word that tells most: how it ended, or its state."""
    return str(task.get("outcome") or task["status"])


def badge(task: dict[str, Any]) -> Markup:
    """The state as a coloured word."""
    word = state(task)
    return Markup('<span class="state {}">{}</span>').format(word, escape(word.replace("_", " ")))


def artifact_links(result: Any) -> list[dict[str, Any]]:
    """The files that a result links to: `id`, `name` and `size` in bytes, None = not known."""
    content = result.get("content") if isinstance(result, dict) else None
    links = [one for one in content or () if isinstance(one, dict) and one.get("type") == "resource_link"]
    return [
        {
            "id": uri.removeprefix(ARTIFACT_URI),
            "name": one.get("name"),
            "size": size if isinstance(size := one.get("size"), int) else None,
        }
        for one in links
        if (uri := str(one.get("uri"))).startswith(ARTIFACT_URI)
    ]


def _whole(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode()


def _cut(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}\n… cut: {len(value) - _LONGEST:,} characters more"


FILTERS = {
    "text": text,
    "lines": lines,
    "pretty": pretty,
    "moment": moment,
    "duration": duration,
    "short_id": short_id,
    "app_name": app_name,
    "badge": badge,
}
"""For the templates."""
