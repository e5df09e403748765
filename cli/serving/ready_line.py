"""What a started server prints and reports: its tools, which of them are tasks, and the queues that need workers."""

from typing import Any

from taskmill.cli.terminal.escaping import printable
from taskmill.server.tool_host import ToolHost

__all__ = ["ready_line", "server_summary"]


async def server_summary(server: ToolHost) -> dict[str, Any]:
    """`tools`: all names but follow-up tools; `tasks`: those of them that run as tasks; `queues`: the queues of tasks.

    It can be written as JSON.
    """
    policies = server.policies()
    return {
        "tools": list(await server.tool_names()),
        "tasks": list(policies),
        "queues": sorted({policy.queue for policy in policies.values()}),
    }


def ready_line(summary: dict[str, Any]) -> str:
    """The line that a started server prints: its URL and its tools."""
    tools = [f"{name} (task)" if name in summary["tasks"] else name for name in summary["tools"]]
    return printable(f"taskmill: {summary['url']}  tools: {', '.join(tools) or 'none'}")
