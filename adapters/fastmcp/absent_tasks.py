"""What `import fastmcp_tasks` and `import docket` find, and their modules, where those packages are not installed.

Taskmill takes the place of the extension. What needs the engine under it fails where it is used, with words.
"""

from typing import Any, NoReturn

from fastmcp import dependencies
from fastmcp.server.extensions import ServerExtension
from fastmcp.utilities.tasks import TASKS_EXTENSION_ID

from taskmill.adapters.fastmcp.docket_dependencies import WORKS_HERE, instead_of
from taskmill.engine.errors import PolicyError

__all__ = ["TasksExtension"]

_MISSING = "{name} belongs to FastMCP's own task engine, which is not installed, and which Taskmill replaces. {instead}"


class TasksExtension(ServerExtension):
    """Marks a server; Taskmill's extension takes its place before the server is used."""

    identifier = TASKS_EXTENSION_ID

    def __init__(self, *_arguments: Any, **_settings: Any) -> None:
        """The settings are those of the other engine: here `TASKMILL_*` says where tasks are kept."""


class Logged:
    """Docket's mark of arguments that its log shows. It changes no call, so it may stay in the file."""

    def __init__(self, *_arguments: Any, **_settings: Any) -> None:
        """The log here shows no arguments."""


class _Missing(type):
    """The type of a class that may be named, in an annotation, and fails when it is used."""

    def __call__(cls, *_arguments: Any, **_named: Any) -> NoReturn:
        raise PolicyError(_MISSING.format(name=cls.__name__, instead=instead_of(cls.__name__)))

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return cls  # `Retry.forever(...)`: the call fails


def __getattr__(name: str) -> Any:
    """Any other name of the packages."""
    if name.startswith("__"):
        raise AttributeError(name)
    if name in WORKS_HERE:
        return getattr(dependencies, name, dependencies.CallArgument)
    return _Missing(name, (), {"__module__": __name__})
