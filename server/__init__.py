"""The author's interface: an MCP server whose slow tools run as tasks.

`TaskServer` and `Context` are imported when they are first used: `taskmill tasks` uses modules of this package,
and needs no server, whose imports take two seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from taskmill.engine.errors import StateUnavailable
from taskmill.engine.policy import TaskConfig
from taskmill.engine.retrying import Retry
from taskmill.engine.timing.schedule import Schedule

if TYPE_CHECKING:
    from taskmill.server.context.context import Context
    from taskmill.server.sampling.failures import SamplingFailed
    from taskmill.server.sampling.functions import SampleTool
    from taskmill.server.sampling.results import SampleResult, SampleStep
    from taskmill.server.task_server import TaskServer

__all__ = [
    "Context",
    "Retry",
    "SampleResult",
    "SampleStep",
    "SampleTool",
    "SamplingFailed",
    "Schedule",
    "StateUnavailable",
    "TaskConfig",
    "TaskServer",
]

_MODULES = {
    "Context": "taskmill.server.context.context",
    "SampleResult": "taskmill.server.sampling.results",
    "SampleStep": "taskmill.server.sampling.results",
    "SampleTool": "taskmill.server.sampling.functions",
    "SamplingFailed": "taskmill.server.sampling.failures",
    "TaskServer": "taskmill.server.task_server",
}


def __getattr__(name: str) -> Any:
    """The class of this name.

    Raises:
        AttributeError: there is none.
        ImportError: another module has it.
    """
    if name not in _MODULES:
        from taskmill.server.names_elsewhere import error_for_name

        raise error_for_name(__name__, name)
    found = getattr(import_module(_MODULES[name]), name)
    globals()[name] = found
    return found
