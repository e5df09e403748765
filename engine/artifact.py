"""What a task leaves beside its result: artifacts, chunks of output, and the addresses both are read at.

Only data; who keeps the bytes is `store/`, who serves them `server/`.
"""

from dataclasses import dataclass
from typing import Any

__all__ = ["ARTIFACT_URI", "OUTPUT_URI", "Artifact", "Chunk", "artifact_uri"]

ARTIFACT_URI = "taskmill://artifact/"
OUTPUT_URI = "taskmill://task/"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that belongs to a task: readable once attached, gone with the task."""

    id: str
    """256 random bits; names the artifact and nothing about it."""
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
    """Which store has the bytes: `redis`, `directory` or `bucket`."""
    sealed: bool = False
    """Whether the bytes at rest are encrypted."""

    @property
    def uri(self) -> str:
        """The address of the resource."""
        return artifact_uri(self.id)


@dataclass(frozen=True, slots=True)
class Chunk:
    """One thing a tool put out while it ran."""

    number: int
    """1 for the first chunk of the task; a gap means that older chunks fell off."""
    attempt: int
    """Which attempt put it out: one that is tried again starts from the top."""
    at_ms: int
    """The store's clock, milliseconds since 1970."""
    content: Any
    """Text, or another JSON value."""


def artifact_uri(artifact_id: str) -> str:
    """The resource of an artifact."""
    return ARTIFACT_URI + artifact_id
