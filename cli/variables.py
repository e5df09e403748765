"""Environment variables that look like settings and are none: most are misspelt, and ignored without a word."""

import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from taskmill.adapters.remote.settings import RemoteSettings
from taskmill.server.settings import SamplingSettings, ServerSettings
from taskmill.workers.settings import WorkerSettings

__all__ = ["known_variables", "unknown_variables", "warn_of_unknown_variables"]

_PREFIX = "TASKMILL_"
_OTHERS = ("TOKEN", "LOG_LEVEL", "LOG_FORM", "SERVER")
"""Read elsewhere: by the log options, and by a stock arq worker."""
_FOR_TESTS = "TASKMILL_TEST_"


def warn_of_unknown_variables(environment: Mapping[str, str]) -> None:
    """Print a line for each of them on standard error, with the setting that was perhaps meant."""
    for name, nearest in unknown_variables(environment, known_variables()).items():
        hint = f" Is {nearest} meant?" if nearest else " docs/reference.md lists the settings."
        print(f"taskmill: There is no setting {ascii(name)[1:-1]}; it is ignored.{hint}", file=sys.stderr, flush=True)


def unknown_variables(environment: Mapping[str, str], known: Iterable[str]) -> dict[str, str | None]:
    """Variables of our prefix that are no settings, each with the nearest setting, None = there is none like it."""
    names = sorted(known)
    unknown = [
        name
        for name in sorted(environment)
        if name.upper().startswith(_PREFIX) and not name.startswith(_FOR_TESTS) and name.upper() not in names
    ]
    return {name: next(iter(get_close_matches(name.upper(), names, n=1, cutoff=0.8)), None) for name in unknown}


def known_variables() -> set[str]:
    """Every variable that is read."""
    kinds = (ServerSettings, SamplingSettings, WorkerSettings, RemoteSettings)
    fields = [name for kind in kinds for name in kind.model_fields]
    return {_PREFIX + name.upper() for name in (*fields, *_OTHERS)}
