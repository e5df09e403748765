"""What is wrong with a value, in words: pydantic's own text names types and addresses that no caller needs."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

__all__ = ["fault_text", "faults_text"]

_LONGEST_VALUE = 60
_PREFIXES = ("Value error, ", "Assertion failed, ")


def faults_text(error: ValidationError) -> str:
    """Every fault of a validation error, with the value where it is short: they are the caller's own data."""
    return "; ".join(fault_text(fault) for fault in error.errors(include_url=False))


def fault_text(fault: Mapping[str, Any], *, name: str | None = None) -> str:
    """One fault: `n should be a valid integer, not 'abc'`. `name`: of what is wrong, None = as the fault says."""
    where = name or ".".join(str(part) for part in fault["loc"]) or "the value"
    text = str(fault["msg"])
    for prefix in _PREFIXES:
        if text.startswith(prefix):
            return f"{where}: {text.removeprefix(prefix)}"
    if fault["type"] == "missing":
        return f"{where} is required"
    if text.startswith("Input should "):
        return f"{where} {text.removeprefix('Input ')}{_value(fault)}"
    return f"{where}: {text}{_value(fault)}"


def _value(fault: Mapping[str, Any]) -> str:
    value = fault.get("input")
    shown = repr(value) if isinstance(value, str | int | float | bool) else ""
    return f", not {shown}" if shown and len(shown) <= _LONGEST_VALUE else ""
