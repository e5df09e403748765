"""What FastMCP logs while a tool runs in a worker: once, and in the worker's own form."""

import logging
import warnings

from mcp import MCPDeprecationWarning

from taskmill.adapters.fastmcp.current_task import current_attempt

__all__ = ["leave_crashes_to_worker"]

_CRASH = "Error calling tool"


def leave_crashes_to_worker() -> None:
    """Drop what the worker logs itself, with a reference: FastMCP's report of a tool that raised.

    Also its use of log messages, which the protocol has deprecated: an author can change nothing there.
    """
    logging.getLogger("fastmcp.server.server").addFilter(_is_of_no_task)
    warnings.filterwarnings("ignore", category=MCPDeprecationWarning, module=r"fastmcp\.")


def _is_of_no_task(record: logging.LogRecord) -> bool:
    return current_attempt.get() is None or not record.getMessage().startswith(_CRASH)
