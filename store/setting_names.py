"""How a setting is called in a message: by the flag that gave it, or by its variable. Knows no values.

Which flags were given is a fact of the process, as the environment is: a command says it once, with `given_by_flag`.
"""

import os
from collections.abc import Mapping
from typing import Any

__all__ = ["flag_of", "given_by_flag", "setting_choice", "setting_example", "setting_name"]

_PREFIX = "TASKMILL_"
_OTHER_FLAGS = {"cors_origins": "--cors-origin", "upstream_headers": "--upstream-header"}
_flags: set[str] = set()


def given_by_flag(flags: Mapping[str, Any]) -> None:
    """Note which settings flags have given: those with a value that is not None."""
    _flags.update(name for name, value in flags.items() if value is not None)


def setting_name(field: str) -> str:
    """`--redis-url` where the flag was given, else `TASKMILL_REDIS_URL`."""
    return flag_of(field) if field in _flags else _variable(field)


def setting_choice(field: str) -> str:
    """What to change it with: the variable where that is set and the flag is not given, else the flag."""
    return setting_name(field) if _variable(field) in os.environ else flag_of(field)


def setting_example(field: str, value: str) -> str:
    """How to give a setting another value, in the way that it has been given; in both, if it has not."""
    if field in _flags:
        return f"{flag_of(field)} {value}"
    if _variable(field) in os.environ:
        return f"{_variable(field)}={value}"
    return f"{flag_of(field)} {value} (or {_variable(field)})"


def flag_of(field: str) -> str:
    """The flag of a setting that has one."""
    return _OTHER_FLAGS.get(field) or "--" + field.replace("_", "-")


def _variable(field: str) -> str:
    return _PREFIX + field.upper()
