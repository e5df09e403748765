"""Settings of a worker process: `WINDLASS_*` in the environment, or the flags of `windlass worker`."""

from pydantic import Field

from windlass.store.settings import StoreSettings

__all__ = ["WorkerSettings"]


class WorkerSettings(StoreSettings):
    """How much a worker takes on, and how it leaves."""

    concurrency: int = Field(10, ge=1, le=10_000)
    """Tasks run at the same time."""
    grace: float = Field(30.0, ge=0)
    """Seconds running tasks get to end by themselves when the worker is told to stop."""
    queue: str = Field("default", pattern=r"^[A-Za-z0-9_.-]{1,64}(,[A-Za-z0-9_.-]{1,64})*$")
    """The queues it serves, separated by commas; each in turn."""
    poll: float = Field(1.0, gt=0, le=60)
    """Seconds between looks at the queue when nothing wakes it: bounds how late a dead worker's task is noticed."""
    reconcile_every: float = Field(30.0, gt=0)
    """Seconds between repairs of the queue."""

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues it serves, each once."""
        return tuple(dict.fromkeys(self.queue.split(",")))
