"""`taskmill limits`: what one caller may have, and which setting or line of the file says so. It asks no server."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from taskmill.cli.errors import UsageError
from taskmill.cli.logs import LogLevel, configure
from taskmill.cli.terminal.escaping import printable
from taskmill.server.limits.limits_file import PRINCIPAL, LimitRule
from taskmill.server.settings import ServerSettings
from taskmill.store.setting_names import setting_name
from taskmill.store.settings import read_settings

__all__ = ["show_limits"]

_SETTINGS = {
    "open_tasks": "open_limit",
    "running_tasks": "running_limit",
    "kept_tasks": "kept_limit",
    "kept_bytes": "kept_bytes_limit",
    "sessions": "session_limit",
    "creations": "creation_rate",
    "requests": "request_rate",
    "open_requests": "request_limit",
}


def show_limits(principal: str | None, words: Sequence[str], *, as_json: bool) -> None:
    """Print them. `words`: claims of the caller's token, `NAME=VALUE` each.

    Raises:
        UsageError: a word is no claim, or the principal is none.
        SettingsError: a value or the file cannot work.
    """
    configure(LogLevel.ERROR)
    if principal is not None and not PRINCIPAL.fullmatch(principal):
        raise UsageError("--principal must be the 64 hex digits of a caller, as `taskmill audit --json` shows them.")
    settings = read_settings(ServerSettings)
    claims, rules = _claims(words), settings.limit_rules
    of_rules = {} if rules is None else rules.sources(principal or "", claims)
    # A caller of a token, whatever its name is: without one, most limits do not hold.
    values = asdict(settings.limits_of(principal or "-", claims))
    sources = {name: _source(name, of_rules.get(name), settings) for name in values}
    if as_json:
        print(json.dumps({name: {"value": values[name], "from": sources[name]} for name in values}, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for title in ("limit", "value", "from"):
        table.add_column(title, overflow="fold")
    for name, value in values.items():
        table.add_row(name, f"{value:,.15g}" if value else "none", printable(sources[name]))
    Console(highlight=False, markup=False).print(table)


def _source(name: str, found: tuple[float, LimitRule] | None, settings: ServerSettings) -> str:
    if found is None:
        return setting_name(_SETTINGS[name])
    return f"{settings.limits_file}" + ("" if found[1].line is None else f", line {found[1].line}")


def _claims(words: Sequence[str]) -> dict[str, Any]:
    """Values of the same name are a list; what reads as JSON is what JSON says."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not name or not equals:
            raise UsageError(f"--claim must be NAME=VALUE, such as plan=free, not {word!r}.")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        found[name] = [*found[name], value] if name in found else [value]
    return found
