"""Dependencies of Docket, the engine under FastMCP's own tasks: a task tool with one is refused, with what to write.

Docket's worker gives them their meaning. Under another engine they would do nothing, or fail in the middle of a call.
"""

from collections.abc import Callable, Iterator
from typing import Any

from uncalled_for import Dependency, get_annotation_dependencies, get_dependency_parameters

from taskmill.engine.errors import PolicyError

__all__ = ["WORKS_HERE", "instead_of", "refuse_docket"]

WORKS_HERE = ("CallArgument", "Depends", "Shared", "TaskArgument")
"""What Docket passes on from the library that FastMCP itself resolves dependencies with."""
_PACKAGES = ("docket", "fastmcp_tasks")
_CONFIG = "Write task=TaskConfig({settings}) with the TaskConfig of taskmill.adapters.fastmcp."
_CURRENT = "Write `task: Task = CurrentTask()` from taskmill.adapters.fastmcp for what a task needs."
_NO_SCHEDULE = "A task here is a call: have a scheduler, such as cron, call the tool with `taskmill call`."
_JOINED = _CONFIG.format(settings="idempotency=...") + " It makes one task of equal calls."
_INSTEAD = {
    "ConcurrencyLimit": _CONFIG.format(settings="concurrency_key=..., concurrency_limit=1"),
    "Cooldown": _JOINED,
    "Cron": _NO_SCHEDULE,
    "CurrentDocket": _CURRENT,
    "CurrentExecution": _CURRENT,
    "CurrentWorker": _CURRENT,
    "Debounce": _JOINED,
    "ExponentialRetry": _CONFIG.format(settings="retries=3, backoff=2"),
    "Perpetual": _NO_SCHEDULE,
    "Progress": "Write `from fastmcp.dependencies import Progress`.",
    "RateLimit": _CONFIG.format(settings="rate_limit=(10, 60)"),
    "Retry": _CONFIG.format(settings="retries=3"),
    "TaskKey": _CURRENT,
    "TaskLogger": "Write logging.getLogger(__name__).",
    "Timeout": "Write timeout=60 beside task=, or in TaskConfig: " + _CONFIG.format(settings="timeout=60"),
}
_OTHERWISE = "Leave it out of the file."


def instead_of(name: str) -> str:
    """What an author writes in the place of a name of Docket's or of `fastmcp_tasks`."""
    return _INSTEAD.get(name, _OTHERWISE)


def refuse_docket(function: Callable[..., Any]) -> None:
    """Refuse the function of a task tool that, or a dependency of which, asks for what only Docket has.

    Raises:
        PolicyError: it does; the message says what to write.
    """
    for dependency in _dependencies_of(function, set()):
        name = _docket_name(dependency)
        if name is not None:
            raise PolicyError(
                f"{name} belongs to FastMCP's own task engine, which Taskmill replaces. {instead_of(name)}"
            )


def _dependencies_of(function: Callable[..., Any], seen: set[int]) -> Iterator[Dependency[Any]]:
    """Those of a function, and those of the functions that make them."""
    if id(function) in seen:
        return
    seen.add(id(function))
    found = list(get_dependency_parameters(function).values())
    for annotated in get_annotation_dependencies(function).values():
        found += annotated
    for dependency in found:
        yield dependency
        factory = getattr(dependency, "factory", None)
        if callable(factory):
            yield from _dependencies_of(factory, seen)


def _docket_name(dependency: Dependency[Any]) -> str | None:
    """The public name of the class of Docket's that it is of, None if it is of none that needs Docket."""
    for kind in type(dependency).__mro__:
        name = kind.__name__.removeprefix("_")
        if kind.__module__.partition(".")[0] in _PACKAGES:
            return None if name in WORKS_HERE else name
    return None
