"""Keys that an author derives from a call: from named arguments, a template of them, or a function.

Only how a key is declared and made; what it is for (the same call, a lane) is in `policy.py`.
"""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any

from taskmill.engine.errors import PolicyError

__all__ = ["PRINCIPAL", "KeySource", "arguments_of", "check_arguments", "check_source", "key_of"]

KeySource = str | Sequence[str] | Callable[[Mapping[str, Any]], str | None]
"""A template such as `"repo:{path}"`, a list of argument names, or a function of the arguments (None = no key)."""

PRINCIPAL = "principal"
"""The placeholder that stands for the caller."""


def check_source(source: object, *, what: str) -> None:
    """Refuse what cannot make a key.

    Raises:
        PolicyError: neither a template, names nor a plain function; the message starts with `what`.
    """
    if callable(source):
        if inspect.iscoroutinefunction(source):
            raise PolicyError(f"{what} must be a plain function: the key is needed before there is a task")
        return
    if isinstance(source, str):
        if not source:
            raise PolicyError(f"{what} must not be empty; use None for no key")
        _placeholders(source, what)
        return
    if not isinstance(source, Sequence) or not source or not all(isinstance(name, str) and name for name in source):
        raise PolicyError(f"{what} must be a template, a list of argument names or a function, not {source!r}")


def arguments_of(source: KeySource) -> frozenset[str]:
    """The arguments a key is made of; empty for a function."""
    if callable(source):
        return frozenset()
    names = _placeholders(source, "key") if isinstance(source, str) else list(source)
    return frozenset(names) - {PRINCIPAL}


def check_arguments(source: KeySource, known: Sequence[str], *, what: str) -> None:
    """Refuse a key that is made of arguments the tool does not have, or whose braces are missing.

    Raises:
        PolicyError: the message says which arguments there are.
    """
    has = f"it has {', '.join(known)}" if known else "it has none"
    if missing := sorted(arguments_of(source) - set(known)):
        raise PolicyError(f"{what} names {missing[0]!r}, which is no argument of the tool: {has}")
    if isinstance(source, str) and source in known:
        raise PolicyError(f"{what}={source!r} would be the same for every call; write '{{{source}}}' for its value")


def key_of(source: KeySource, arguments: Mapping[str, Any], plain: Mapping[str, Any], principal: str) -> str | None:
    """The key of one call, None for no key.

    `arguments`: validated, as the tool gets them; `plain`: the same as JSON values; both with defaults filled in.

    Raises:
        TypeError: the author's function returned something else than text or None.
    """
    if callable(source):
        key = source(arguments)
        if key is not None and not isinstance(key, str):
            raise TypeError(f"a key function must return str or None, not {type(key).__name__}")
        return key
    values = {**plain, PRINCIPAL: principal}
    if isinstance(source, str):
        parts = Formatter().parse(source)
        return "".join(text + ("" if name is None else _as_text(values[name])) for text, name, _, _ in parts)
    return _json([values[name] for name in source])


def _placeholders(template: str, what: str) -> list[str]:
    try:
        parts = [(name, form, convert) for _, name, form, convert in Formatter().parse(template) if name is not None]
    except ValueError as exc:
        raise PolicyError(f"{what}={template!r} is not a template: {exc}") from None
    for name, form, convert in parts:
        if not name.isidentifier() or form or convert:
            raise PolicyError(f"{what}={template!r}: placeholders are argument names in braces, nothing more")
    return [name for name, _, _ in parts]


def _as_text(value: Any) -> str:
    """A value as text such that two different lists of values never give the same key."""
    return _json(value) if isinstance(value, str) else f"({_json(value)})"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
