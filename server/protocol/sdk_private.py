"""The private names of the `mcp` SDK that Taskmill uses: nowhere else. Each says what would let it go.

A release of the SDK may change any of them, so what stands here is all that a new release has to be checked for.
"""

from mcp.server.mcpserver.tools import Tool

__all__ = ["cache_output_adapter"]


def cache_output_adapter(tool: Tool) -> None:
    """Keep the adapter that converts the tool's results where Python looks first.

    The SDK has it in a private attribute of a pydantic model. Python finds that last, by a slow path, and three times
    a call: half of what a conversion costs. Where the SDK names it otherwise, nothing is gained and nothing is lost.
    It can go when the SDK keeps the adapter in a plain attribute.
    """
    metadata = tool.fn_metadata
    adapter = getattr(metadata, "_adapter", None)
    if adapter is not None:
        vars(metadata)["_adapter"] = adapter
