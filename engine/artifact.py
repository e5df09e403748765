"""What a task leaves beside its result: artifacts, chunks of output, and the URIs under which clients read them.

Only data: `store/` keeps the bytes, `server/` serves them.
"""

from dataclasses import dataclass
from typing import Any

__all__ = ["ARTIFACT_URI", "OUTPUT_URI", "PIECE", "Artifact", "Chunk", "artifact_uri"]

ARTIFACT_URI = "taskmill://artifact/"
OUTPUT_URI = "taskmill://task/"
PIECE = 256 * 1024
"""Bytes of an artifact that are read, sent or kept at a time."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that belongs to a task: readable once attached, gone with the task."""

    id: str
    """256 random bits; the id says nothing about the content."""
    task_id: str
    principal: str
    """Owner of the task, and the only one who may read it."""
    name: str
    mime_type: str
    size: int
    """Bytes."""
    digest: str
    """SHA-256 of the bytes, as 64 hex digits."""
    place: str
    """Which backend has the bytes: `redis`, `directory` or `bucket`."""
    sealed: bool = False
    """Whether the bytes at rest are encrypted."""

    @property
    def uri(self) -> str:
        """The URI of the resource."""
        return artifact_uri(self.id)


@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece of output that a tool emitted while it ran."""

    number: int
    """1 for the first chunk of the task; a gap means that older chunks were dropped."""
    attempt: int
    """Which attempt emitted it: a later attempt emits everything again."""
    at_ms: int
    """The store's clock, milliseconds since 1970."""
    content: Any
    """Text, or another JSON value."""


def artifact_uri(artifact_id: str) -> str:
    """The URI of an artifact."""
    return ARTIFACT_URI + artifact_id
