"""The console of a process: its operators, its store, and which of its settings it shows."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from starlette.routing import BaseRoute

from taskmill.engine.errors import SettingsError
from taskmill.server.auth.operators import Operators
from taskmill.server.settings import ServerSettings
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["console_of", "has_console", "settings_shown"]


def has_console() -> bool:
    """Whether what the console needs is installed."""
    return find_spec("jinja2") is not None


def console_of(
    store: Callable[[], TaskStore],
    operators: Operators,
    settings: ServerSettings,
    *,
    app: str | None = None,
    tools: Callable[[], Mapping[str, str]] = dict,
    facts: Mapping[str, Any],
) -> BaseRoute:
    """The routes of the console at `/console`.

    Raises:
        SettingsError: what it needs is not installed.
    """
    if not has_console():
        raise SettingsError("The console needs Jinja2: pip install 'taskmill[console]'.")
    from taskmill.console import ConsoleTasks, console_mount

    tasks = ConsoleTasks(store, app, tools, facts, shows_arguments=settings.console_arguments)
    return console_mount(tasks, operators, lasts=settings.console_session)


def settings_shown(settings: StoreSettings) -> dict[str, str]:
    """What of the settings an operator may read: no secret, and of addresses no user and no password."""
    fields = type(settings).model_fields
    shown = {name: getattr(settings, name) for name, field in fields.items() if field.repr}
    return {name: _shown(name, value) for name, value in sorted(shown.items()) if value not in (None, "", ())}


def _shown(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    text = str(value)
    if "://" in text and "@" in text:
        scheme, _, rest = text.partition("://")
        return f"{scheme}://…@{rest.rpartition('@')[2]}"
    return text
