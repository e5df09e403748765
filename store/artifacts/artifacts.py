"""Artifacts: files that belong to a task. What is known of them is in Redis, their bytes where the settings say.

Bytes are written first and attached to the task afterwards, under its fence: a late worker's bytes never count, and
what was never attached is swept.
"""

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, Protocol

from redis.asyncio import Redis

from taskmill.engine.artifact import Artifact
from taskmill.engine.errors import ArtifactsUnavailable, ArtifactTooLarge, FenceLost, OperatorError, TaskNotFound
from taskmill.engine.principal import new_task_id
from taskmill.store.artifacts.backends import BLOCK, BlobBackend, in_blocks, outside_backend
from taskmill.store.artifacts.redis_backend import RedisBackend
from taskmill.store.artifacts.sealed import SealedBackend
from taskmill.store.connection.client import store_errors
from taskmill.store.connection.retry import until_available
from taskmill.store.formats.records import artifact_of, format_errors
from taskmill.store.scripts import Scripts
from taskmill.store.seal_keys import sealer_of
from taskmill.store.settings import StoreSettings
from taskmill.store.shards import id_on_same_shard

__all__ = ["ArtifactReader", "ArtifactStore"]

_SMALL = 64 * 1024
"""Bytes up to which an artifact is kept in Redis, also where there is a directory or bucket."""
_MOST_OF_A_TASK = 10_000
_UPLOAD_MS = 24 * 3600 * 1000
"""How long an upload may take: bytes not attached by then are swept."""
_OPERATOR = ""


class ArtifactReader(Protocol):
    """The artifacts of one deployment, for readers."""

    async def find(self, artifact_id: str, principal: str) -> Artifact:
        """What is known of an artifact.

        Raises:
            TaskNotFound: unknown, expired, or another principal's: one answer for all three.
        """
        ...

    def read(self, artifact: Artifact, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """Bytes from `start` to before `stop` (None = the end), in pieces.

        Raises:
            ArtifactsUnavailable, StoreUnavailable, SealBroken: they cannot be had.
        """
        ...


class ArtifactStore(ArtifactReader):
    """The artifacts on one Redis, or beside it."""

    def __init__(self, redis: Redis, settings: StoreSettings, scripts: Scripts) -> None:
        """Nothing is contacted yet.

        Raises:
            SettingsError: `TASKMILL_ARTIFACTS` names a backend that cannot work.
        """
        self._redis: Any = redis  # redis-py types both its clients as one
        self._settings = settings
        self._scripts = scripts
        self._keys = settings.keys()
        self._sealer = sealer_of(settings)
        self._inside: BlobBackend = RedisBackend(redis, self._keys)
        self._outside = outside_backend(settings)

    async def write(
        self, content: AsyncIterable[bytes], *, task_id: str, principal: str, name: str, mime_type: str
    ) -> Artifact:
        """Write the bytes of a new artifact; no one can read it before it is attached. Outages of Redis are waited out.

        `principal`: the owner of the task.

        Raises:
            ArtifactTooLarge: too many bytes for where they would go.
            ArtifactsUnavailable: they could not be written.
        """
        blob_id = id_on_same_shard(task_id, new_task_id())
        measured = _Measured(content)
        backend = await self._backend_for(measured)
        measured.limit, measured.where = self._limit_of(backend)
        sealed = self._sealer.has_keys
        if backend is not self._inside:
            await until_available(lambda: self._announce(blob_id))
        try:
            await self._sealing(backend, sealed).write(blob_id, measured)
        except BaseException:
            await self._discard(backend, blob_id)
            raise
        return Artifact(
            id=blob_id,
            task_id=task_id,
            principal=principal,
            name=name,
            mime_type=mime_type,
            size=measured.size,
            digest=measured.digest,
            place=backend.name,
            sealed=sealed,
        )

    async def attach(self, artifact: Artifact, fence: int) -> None:
        """Make an artifact whose bytes are written part of its task. Outages of Redis are waited out.

        Raises:
            FenceLost: the task is another worker's now, or has ended; the bytes are deleted again.
            ArtifactTooLarge: the task has too many artifacts.
            ArtifactsUnavailable: writing took so long that the bytes were swept.
        """
        match await until_available(lambda: self._tell(artifact, fence)):
            case b"attached":
                return
            case b"full":
                fault: Exception = ArtifactTooLarge(f"A task can have {_MOST_OF_A_TASK:,} artifacts at most.")
            case b"late":
                fault = ArtifactsUnavailable("Writing the artifact took longer than a day, and its bytes were swept.")
            case _:
                fault = FenceLost(task_id=artifact.task_id)
        await self._discard(self._backend_of(artifact), artifact.id)
        raise fault

    async def find(self, artifact_id: str, principal: str) -> Artifact:
        """See `ArtifactReader.find`."""
        with store_errors():
            field = await self._redis.hgetall(self._keys.artifact(artifact_id))
        artifact = artifact_of(artifact_id, self._opened(artifact_id, field)) if field else None
        if artifact is None or principal not in (_OPERATOR, artifact.principal):
            raise TaskNotFound("Artifact not found: it never existed, has expired, or belongs to another caller.")
        return artifact

    async def read(self, artifact: Artifact, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """See `ArtifactReader.read`."""
        backend = self._backend_of(artifact)
        end = artifact.size if stop is None else min(stop, artifact.size)
        async for piece in self._sealing(backend, artifact.sealed, artifact.size).read(artifact.id, start, end):
            yield piece

    async def sweep(self, limit: int = 100) -> int:
        """Delete the bytes of up to `limit` artifacts whose time is over, outside Redis; how many there were.

        Raises:
            ArtifactsUnavailable, StoreUnavailable: not all of them could be; the rest is due next time.
        """
        if self._outside is None:
            return 0
        with store_errors():
            due = await self._scripts.run(self._redis, "sweep", [self._keys.outside], [limit])
        for blob_id in due:
            await self._outside.delete(blob_id.decode())
            with store_errors():
                await self._redis.zrem(self._keys.outside, blob_id)
        return len(due)

    async def _backend_for(self, measured: "_Measured") -> BlobBackend:
        if self._outside is None or await measured.is_at_most(_SMALL):
            return self._inside
        return self._outside

    def _backend_of(self, artifact: Artifact) -> BlobBackend:
        if artifact.place == self._inside.name:
            return self._inside
        if self._outside is not None and self._outside.name == artifact.place:
            return self._outside
        raise ArtifactsUnavailable(
            f"An artifact is in the {artifact.place}, and TASKMILL_ARTIFACTS={self._settings.artifacts} here."
        )

    def _limit_of(self, backend: BlobBackend) -> tuple[int, str]:
        if backend is not self._inside:
            return self._settings.max_artifact, "TASKMILL_MAX_ARTIFACT"
        hint = "TASKMILL_MAX_ARTIFACT_IN_REDIS; TASKMILL_ARTIFACTS=dir:/path or s3://bucket takes larger ones"
        return min(self._settings.max_artifact_in_redis, self._settings.max_artifact), hint

    def _sealing(self, backend: BlobBackend, sealed: bool, size: int = 0) -> BlobBackend:
        return SealedBackend(backend, self._sealer, size) if sealed else backend

    def _opened(self, artifact_id: str, field: Mapping[bytes, bytes]) -> dict[str, str]:
        """The fields of an artifact in clear.

        Raises:
            DecryptionFailed: they are refused, or cannot be read.
        """
        with format_errors():
            known = {name.decode(): value.decode() for name, value in field.items() if name != b"facts"}
            facts_field = _facts_field(known["task"], known["principal"])
        if b"facts" in field:
            facts = self._sealer.open(field[b"facts"], task_id=artifact_id, field=facts_field)
            return {**known, **{name: str(value) for name, value in facts.items()}}
        if not self._sealer.accepts_unsealed:
            raise self._sealer.refusal(artifact_id, "artifact", "not sealed")
        return known

    async def _announce(self, blob_id: str) -> None:
        """Note the bytes that will be written, so that they are swept should this process die before they count."""
        with store_errors():
            seconds, _ = await self._redis.time()
            await self._redis.zadd(self._keys.outside, {blob_id: int(seconds) * 1000 + _UPLOAD_MS})

    async def _tell(self, artifact: Artifact, fence: int) -> Any:
        known: dict[str, Any] = {
            "name": artifact.name,
            "mime": artifact.mime_type,
            "size": artifact.size,
            "digest": artifact.digest,
            "place": artifact.place,
            "sealed": int(artifact.sealed),
        }
        if self._sealer.has_keys:
            known = {
                "facts": self._sealer.seal(
                    known, task_id=artifact.id, field=_facts_field(artifact.task_id, artifact.principal)
                )
            }
        flat = [word for pair in known.items() for word in pair]
        keys = [self._keys.artifact(artifact.id), self._keys.artifacts(artifact.task_id)]
        args = [artifact.task_id, fence, artifact.id, _MOST_OF_A_TASK, *flat]
        with store_errors():
            return await self._scripts.run(self._redis, "attach", keys, args)

    async def _discard(self, backend: BlobBackend, blob_id: str) -> None:
        """Forget bytes that count for nothing; what cannot be deleted now is swept later."""
        with suppress(OperatorError):
            await backend.delete(blob_id)
            with store_errors():
                await self._redis.zrem(self._keys.outside, blob_id)


class _Measured:
    """The content in blocks, with its size and digest, and an error once it is too large."""

    def __init__(self, content: AsyncIterable[bytes]) -> None:
        self._blocks = in_blocks(content, BLOCK)
        self._ahead: list[bytes] = []
        self._hash = hashlib.sha256()
        self.size = 0
        self.limit = 0
        self.where = ""

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    async def is_at_most(self, size: int) -> bool:
        """Whether there are no more bytes than `size`, at most a block; they are read ahead and not lost."""
        async for block in self._blocks:
            self._ahead.append(block)
            return len(block) <= size
        return True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._run()

    async def _run(self) -> AsyncIterator[bytes]:
        for block in self._ahead:
            yield self._count(block)
        self._ahead.clear()
        async for block in self._blocks:
            yield self._count(block)

    def _count(self, block: bytes) -> bytes:
        self.size += len(block)
        if self.size > self.limit:
            raise ArtifactTooLarge(
                f"The artifact has more than {self.limit:,} bytes, the limit of {self.where}.", limit=self.limit
            )
        self._hash.update(block)
        return block


def _facts_field(task_id: str, principal: str) -> str:
    """The name under which an artifact's facts are sealed: it cannot be given to another task or owner."""
    return f"artifact:{task_id}:{principal}"
