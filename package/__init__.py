"""What `import taskmill` finds: the names of `taskmill.server`, loaded when one is used. The code is in the rooms.

The command line imports this package at every start, and the protocol's library alone takes a second to load.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskmill.server import Context as Context
    from taskmill.server import Retry as Retry
    from taskmill.server import TaskConfig as TaskConfig
    from taskmill.server import TaskServer as TaskServer

__all__ = ["Context", "Retry", "TaskConfig", "TaskServer"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        import taskmill.server

        return getattr(taskmill.server, name)
    if name.startswith("_"):
        raise AttributeError(f"module 'taskmill' has no attribute {name!r}")
    from taskmill.server.names_elsewhere import error_for_name

    raise error_for_name(__name__, name)
