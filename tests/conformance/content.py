"""Tools that return each kind of content, and two whose input schema is the point; nothing here asks or reports."""

import base64
from typing import Annotated, Any

from mcp.server.mcpserver.tools import Tool
from mcp.types import AudioContent, CallToolResult, EmbeddedResource, ImageContent, TextContent, TextResourceContents
from pydantic import Field

__all__ = ["FIRST_TOOLS", "PIXEL_PNG", "TOOLS"]

# One transparent pixel, and a wave file of zero samples: the smallest that any decoder takes.
PIXEL_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SILENCE_WAV = base64.b64encode(
    b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00"
    b"data\x00\x00\x00\x00"
).decode()

CONTACT_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


async def test_simple_text() -> str:
    """Return one line of text."""
    return "This is a simple text response for testing."


async def json_schema_2020_12_tool(
    name: str | None = None,
    address: dict[str, str] | None = None,
    contactMethod: str | None = None,  # the name in CONTACT_SCHEMA
    phone: str | None = None,
    email: str | None = None,
) -> str:
    """Take a contact whose schema uses the whole vocabulary of JSON Schema 2020-12."""
    return f"{name or 'Somebody'} is reached by {contactMethod or ('phone' if phone else 'email')}"


async def test_image_content() -> ImageContent:
    """Return an image."""
    return ImageContent(type="image", data=PIXEL_PNG, mime_type="image/png")


async def test_audio_content() -> AudioContent:
    """Return a sound."""
    return AudioContent(type="audio", data=SILENCE_WAV, mime_type="audio/wav")


async def test_embedded_resource() -> EmbeddedResource:
    """Return a resource inside the result."""
    return _embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")


async def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
    """Return text, an image and a resource together."""
    return [
        TextContent(type="text", text="Multiple content types test:"),
        ImageContent(type="image", data=PIXEL_PNG, mime_type="image/png"),
        _embedded("test://mixed-content-resource", "application/json", '{"test": "data", "value": 123}'),
    ]


async def test_error_handling() -> CallToolResult:
    """Fail as a tool, not as a protocol."""
    # Returned rather than raised: the SDK puts the tool's name before the text of a raised error.
    text = TextContent(type="text", text="This tool intentionally returns an error for testing")
    return CallToolResult(content=[text], is_error=True)


async def test_x_mcp_header(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    """Take an argument that clients also send as the header `Mcp-Param-Region`."""
    return f"Routed to {region}"


def _embedded(uri: str, mime_type: str, text: str) -> EmbeddedResource:
    contents = TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    return EmbeddedResource(type="resource", resource=contents)


FIRST_TOOLS = [
    Tool.from_function(test_simple_text),
    # The schema must arrive word for word, so it replaces the one derived from the signature.
    Tool.from_function(json_schema_2020_12_tool).model_copy(update={"parameters": CONTACT_SCHEMA}),
]
TOOLS = (
    test_image_content,
    test_audio_content,
    test_embedded_resource,
    test_multiple_content_types,
    test_error_handling,
    test_x_mcp_header,
)
