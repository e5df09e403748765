"""The suite's resources: text, bytes, a template, and one to subscribe to."""

import base64
import json

from content import PIXEL_PNG
from mcp.server.mcpserver import MCPServer

__all__ = ["add_to"]


def static_text() -> str:
    """A text that never changes."""
    return "This is the content of the static text resource."


def static_binary() -> bytes:
    """An image that never changes."""
    return base64.b64decode(PIXEL_PNG)


def watched() -> str:
    """A text that clients subscribe to."""
    return "This is the content of the watched resource."


def template(id: str) -> str:  # noqa: A002 - the variable in the URI template has this name
    """A document for any id."""
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def add_to(mcp: MCPServer) -> None:
    """Register them all."""
    mcp.resource("test://static-text", mime_type="text/plain")(static_text)
    mcp.resource("test://static-binary", mime_type="image/png")(static_binary)
    mcp.resource("test://watched-resource", mime_type="text/plain")(watched)
    mcp.resource("test://template/{id}/data", mime_type="application/json")(template)
