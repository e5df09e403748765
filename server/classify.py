"""Which class of client a request comes from. Only chooses; what each class gets has a file of its own."""

from enum import Enum
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import require_client_extension
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from windlass.server.wire import EXTENSION

__all__ = ["ClientClass", "classify", "require_tasks"]


class ClientClass(Enum):
    """Classes of clients."""

    TASKS = "tasks"
    """Speaks 2026-07-28 and declared the tasks extension on this very request."""
    PLAIN = "plain"
    """Speaks 2026-07-28 without the extension: its call is held open."""
    LEGACY = "legacy"
    """Speaks an earlier revision: its call is held open."""


def classify(ctx: ServerRequestContext[Any, Any]) -> ClientClass:
    """The class of this request's client. A declaration on an earlier request, or a legacy one, does not count."""
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        return ClientClass.LEGACY
    capabilities = ctx.session.client_capabilities
    declared = capabilities.extensions if capabilities else None
    return ClientClass.TASKS if declared and EXTENSION in declared else ClientClass.PLAIN


def require_tasks(ctx: ServerRequestContext[Any, Any]) -> None:
    """Refuse a client that did not declare the extension.

    Raises:
        MCPError: -32021 with `data.requiredCapabilities` (tasks extension, "Capability Negotiation").
    """
    require_client_extension(ctx, EXTENSION)
