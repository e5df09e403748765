"""FastMCP servers as task servers: `mcp.add_extension(Tasks())`, `@mcp.tool(task=TaskConfig(retries=3))`.

A command that loads a FastMCP server needs none of it: it adds the extension itself.
"""

from taskmill.adapters.fastmcp.config import TaskConfig
from taskmill.adapters.fastmcp.current_task import CurrentTask, Task
from taskmill.adapters.fastmcp.extension import Tasks
from taskmill.adapters.fastmcp.host import FastMCPHost

__all__ = ["CurrentTask", "FastMCPHost", "Task", "TaskConfig", "Tasks"]
