"""What `import fastmcp_tasks` finds, and its modules, where that package is not installed: names that do nothing.

Taskmill takes the place of its extension. What needs the engine under it fails where it is called, with words.
"""

from typing import Any, NoReturn

from fastmcp.server.extensions import ServerExtension
from fastmcp.utilities.tasks import TASKS_EXTENSION_ID

from taskmill.engine.errors import PolicyError

__all__ = ["TasksExtension"]

_MISSING = "{name} belongs to FastMCP's own task engine, which is not installed, and which Taskmill replaces. {instead}"
_INSTEAD = {
    "CurrentDocket": "Write `task: Task = CurrentTask()` from taskmill.adapters.fastmcp for what a task needs.",
    "CurrentWorker": "Write `task: Task = CurrentTask()` from taskmill.adapters.fastmcp for what a task needs.",
}
_OTHERWISE = "Leave it out of the file."


class TasksExtension(ServerExtension):
    """Marks a server; Taskmill's extension takes its place before the server is used."""

    identifier = TASKS_EXTENSION_ID

    def __init__(self, *_arguments: Any, **_settings: Any) -> None:
        """The settings are those of the other engine: here `TASKMILL_*` says where tasks are kept."""


def __getattr__(name: str) -> Any:
    """Any other name of the package: it fails when it is called."""
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*_arguments: Any, **_named: Any) -> NoReturn:
        raise PolicyError(_MISSING.format(name=name, instead=_INSTEAD.get(name, _OTHERWISE)))

    return missing
