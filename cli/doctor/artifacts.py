"""What `taskmill doctor` finds where artifacts are kept: whether one can be written there, read and deleted."""

import time
from collections.abc import AsyncIterator

from taskmill.engine.errors import ArtifactsUnavailable, SettingsError
from taskmill.engine.principal import new_task_id
from taskmill.store.artifacts.backends import BlobBackend, outside_backend
from taskmill.store.connection.checks import Finding
from taskmill.store.settings import StoreSettings

__all__ = ["of_artifacts"]

_PROBE = b"taskmill doctor was here"
_MIB = 1024 * 1024
_REMEDY = "correct TASKMILL_ARTIFACTS, or what it names; it must be the same on every server and worker"


async def of_artifacts(settings: StoreSettings) -> Finding:
    """The place of large artifacts; a directory or bucket is tried out, and nothing is left in it."""
    try:
        place = outside_backend(settings)
        if place is None:
            most = settings.max_artifact_in_redis / _MIB
            return Finding("artifacts", "ok", f"in Redis, up to {most:.3g} MiB each")
        began = time.monotonic()
        await _try_out(place)
    except (ArtifactsUnavailable, SettingsError) as exc:
        return Finding("artifacts", "unfit", str(exc), _REMEDY)
    took = (time.monotonic() - began) * 1000
    return Finding("artifacts", "ok", f"{settings.artifacts}: one was written, read and deleted in {took:.0f} ms")


async def _try_out(place: BlobBackend) -> None:
    """Write, read and delete a few bytes.

    Raises:
        ArtifactsUnavailable: one of these does not work there.
    """
    blob_id = new_task_id()

    async def blocks() -> AsyncIterator[bytes]:
        yield _PROBE

    await place.write(blob_id, blocks())
    found = b"".join([piece async for piece in place.read(blob_id, 0, len(_PROBE))])
    await place.delete(blob_id)
    if found != _PROBE:
        raise ArtifactsUnavailable("What was written there is not what is read.")
