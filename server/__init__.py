"""The author's interface: an MCP server whose slow tools run as tasks."""

from taskmill.engine.policy import TaskConfig
from taskmill.engine.retrying import Retry
from taskmill.server.context.context import Context
from taskmill.server.task_server import TaskServer

__all__ = ["Context", "Retry", "TaskConfig", "TaskServer"]
