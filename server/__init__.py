"""The author's interface: an MCP server whose slow tools run as tasks."""

from windlass.engine.policy import TaskConfig
from windlass.engine.retrying import Retry
from windlass.server.context.context import Context
from windlass.server.task_server import TaskServer

__all__ = ["Context", "Retry", "TaskConfig", "TaskServer"]
