"""What one attempt stores beside its result - output and artifacts - written under its fence.

A tool that emits or attaches waits until that is stored; an outage of the store only makes it wait longer.
"""

import asyncio
import secrets
from collections.abc import AsyncIterable
from functools import partial
from typing import Any

from taskmill.engine.artifact import Artifact
from taskmill.store.artifacts.artifacts import ArtifactStore
from taskmill.store.connection.retry import until_available
from taskmill.store.tasks.output import OutputStore

__all__ = ["AttemptOutput"]


class AttemptOutput:
    """The `OutputPort` of one attempt."""

    def __init__(
        self,
        output: OutputStore,
        artifacts: ArtifactStore,
        *,
        task_id: str,
        fence: int,
        principal: str,
        inline_limit: int,
    ) -> None:
        self._output = output
        self._artifacts = artifacts
        self._task_id = task_id
        self._fence = fence
        self._principal = principal
        self._lock = asyncio.Lock()
        self.inline_limit = inline_limit

    async def emit(self, chunk: Any) -> None:
        """Add a chunk; chunks are stored in the order in which `emit` was called.

        Raises:
            ChunkRefused: too large, or not JSON.
            FenceLost: the task is no longer this attempt's.
        """
        packed = self._output.pack(self._task_id, chunk)
        async with self._lock:
            await until_available(
                partial(self._output.add, self._task_id, self._fence, [packed], batch_id=secrets.token_hex(8))
            )

    async def attach(self, content: AsyncIterable[bytes], *, name: str, mime_type: str) -> Artifact:
        """Store a file.

        Raises:
            ArtifactTooLarge: too many bytes, or too many artifacts.
            ArtifactsUnavailable: the directory or bucket cannot be written.
            FenceLost: the task is no longer this attempt's.
        """
        artifact = await self._artifacts.write(
            content, task_id=self._task_id, principal=self._principal, name=name, mime_type=mime_type
        )
        await self._artifacts.attach(artifact, self._fence)
        return artifact
