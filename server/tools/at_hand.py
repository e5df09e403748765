"""Makes the SDK find at once what converts a tool's results, rather than search for it at every call."""

from mcp.server.mcpserver.tools import Tool

__all__ = ["keep_at_hand"]


def keep_at_hand(tool: Tool) -> None:
    """Keep the adapter of the tool's output where Python looks first.

    The SDK has it in a private attribute of a pydantic model. That is found last, in plain Python, and three times a
    call: half of what a conversion costs. Where the SDK names it otherwise, nothing is gained and nothing is lost.
    """
    metadata = tool.fn_metadata
    adapter = getattr(metadata, "_adapter", None)
    if adapter is not None:
        vars(metadata)["_adapter"] = adapter
