"""Which class of client a request comes from. It only chooses: what each class gets is in a file of its own."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    ClientCapabilities,
    MissingRequiredClientCapabilityErrorData,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from taskmill.server.protocol.shapes_2026 import EXTENSION

__all__ = ["TASKS_2025", "ClientClass", "client_class_of", "client_info", "missing_tasks", "require_tasks"]

TASKS_2025 = "2025-11-25"
"""The one revision before 2026 that has tasks."""


class ClientClass(Enum):
    """Classes of clients."""

    TASKS_2026 = "tasks 2026"
    """Speaks 2026-07-28 and declared the tasks extension on this very request."""
    TASKS_2025 = "tasks 2025"
    """Speaks 2025-11-25, and asked for a task with this very call."""
    PLAIN = "plain"
    """Knows no tasks, or wants none: its call is held open or handed off."""


def client_class_of(ctx: ServerRequestContext[Any, Any]) -> ClientClass:
    """The class of this request's client. A declaration on an earlier request, or a legacy one, does not count."""
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        capabilities = ctx.session.client_capabilities
        declared = capabilities.extensions if capabilities else None
        return ClientClass.TASKS_2026 if declared and EXTENSION in declared else ClientClass.PLAIN
    params: Mapping[str, Any] = ctx.params or {}
    wants_task = ctx.protocol_version == TASKS_2025 and params.get("task") is not None
    return ClientClass.TASKS_2025 if wants_task else ClientClass.PLAIN


def client_info(ctx: ServerRequestContext[Any, Any]) -> tuple[str, str]:
    """Name and version that the client gave itself, empty if it gave none."""
    params = ctx.session.client_params
    return (params.client_info.name, params.client_info.version) if params else ("", "")


def require_tasks(ctx: ServerRequestContext[Any, Any]) -> None:
    """Refuse a client that did not declare the extension.

    Raises:
        MCPError: -32021 with `data.requiredCapabilities` (tasks extension, "Capability Negotiation").
    """
    require_client_extension(ctx, EXTENSION)


def missing_tasks() -> MCPError:
    """The same error, for a caller that has no session to look into."""
    wanted = ClientCapabilities(extensions={EXTENSION: {}})
    data = MissingRequiredClientCapabilityErrorData(required_capabilities=wanted)
    return MCPError(
        MISSING_REQUIRED_CLIENT_CAPABILITY,
        f"The client did not declare the extension {EXTENSION}.",
        data.model_dump(by_alias=True, mode="json", exclude_none=True),
    )
