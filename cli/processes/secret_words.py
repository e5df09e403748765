"""Words of a command line that other users must not read: all of a machine see the command lines of all processes.

They reach a child in its environment, which only its own user can read, and are taken out of there as soon as it has
read them, so that no program of a tool inherits them.
"""

import os
from collections.abc import Sequence

__all__ = ["REDIS_URL", "forget_secrets", "split_secrets"]

REDIS_URL = "_TASKMILL_REDIS_URL"
"""Variable that stands for the flag `--redis-url` in a child process. No setting: people set TASKMILL_REDIS_URL."""
_VARIABLES = {"--redis-url": REDIS_URL}


def split_secrets(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The words without secret flags, and those as variables."""
    public: list[str] = []
    secret: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        if word in _VARIABLES:
            secret[_VARIABLES[word]] = next(rest)
        else:
            public.append(word)
    return public, secret


def forget_secrets() -> None:
    """Take the variables out of the environment of this process, which has read them."""
    for variable in _VARIABLES.values():
        os.environ.pop(variable, None)
