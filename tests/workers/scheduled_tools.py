"""A server whose tool runs by itself every second, for tests that kill its workers."""

from taskmill.server import TaskConfig, TaskServer

mcp: TaskServer[object] = TaskServer("Scheduled")


@mcp.tool(task=TaskConfig(schedule=1))
async def tick() -> str:
    """Run by itself."""
    return "ticked"
