"""What a server offers: its tools, which of them are tasks, and the queues that workers must serve."""

from typing import Any

from taskmill.server.tool_host import ToolHost

__all__ = ["offer_of", "ready_line"]


async def offer_of(server: ToolHost) -> dict[str, Any]:
    """`tools`: every name but the follow-up tools'; `tasks`: those that run as tasks; `queues`: where those wait.

    Fit for JSON.
    """
    policies = server.policies()
    return {
        "tools": list(await server.tool_names()),
        "tasks": list(policies),
        "queues": sorted({policy.queue for policy in policies.values()}),
    }


def ready_line(facts: dict[str, Any]) -> str:
    """The one line that says where a server is and what it has."""
    tools = [f"{name} (task)" if name in facts["tasks"] else name for name in facts["tools"]]
    return f"taskmill: {facts['url']}  tools: {', '.join(tools) or 'none'}"
