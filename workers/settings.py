"""Settings of a worker process: `TASKMILL_*` in the environment, or the flags of `taskmill worker`."""

from typing import Self

from pydantic import Field

from taskmill.engine.errors import SettingsError
from taskmill.store.setting_names import setting_name
from taskmill.store.settings import LONGEST, StoreSettings
from taskmill.store.shards import DEFAULT_SHARD

__all__ = ["WorkerSettings"]


_LEAST_WITH_RESERVE = 4
"""Slots of a worker from which on it reserves one: of fewer, that would be too much for a caller who is alone."""


class WorkerSettings(StoreSettings):
    """How many tasks a worker runs, which ones, and how it stops."""

    concurrency: int = Field(10, ge=1, le=10_000)
    """Tasks run at the same time."""
    reserved_slots: int | None = Field(None, ge=0, le=10_000)
    """Slots that only callers with nothing running on this worker get; None = a tenth, at least one of four or more."""
    grace: float = Field(30.0, ge=0, le=LONGEST)
    """Seconds that running tasks get to end by themselves when the worker is asked to stop."""
    queue: str = Field("default", pattern=r"^[A-Za-z0-9_.-]{1,64}(,[A-Za-z0-9_.-]{1,64})*$")
    """The queues it serves, separated by commas; each is the first in rotation."""
    shard: str | None = None
    """The shard whose tasks it runs, for a shard that these queues have left; None = the one where the queues are."""
    poll: float = Field(1.0, gt=0, le=60)
    """Seconds between claims when nothing wakes it: bounds how late a crashed worker's task is noticed."""
    reconcile_every: float = Field(30.0, gt=0, le=LONGEST)
    """Seconds between repairs of the queue."""

    @property
    def reserve(self) -> int:
        """How many slots are reserved; one at least is for all."""
        usual = max(1, self.concurrency // 10) if self.concurrency >= _LEAST_WITH_RESERVE else 0
        return min(usual if self.reserved_slots is None else self.reserved_slots, self.concurrency - 1)

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues it serves, each once."""
        return tuple(dict.fromkeys(self.queue.split(",")))

    def at_own_shard(self) -> Self:
        """The settings of the worker itself, which knows the Redis of its queues and no other.

        Raises:
            SettingsError: its queues are on several shards, or the shard does not exist.
        """
        if self.shard is not None and self.shard != DEFAULT_SHARD and self.shard not in self.shards:
            known = ", ".join([DEFAULT_SHARD, *self.shards])
            raise SettingsError(f"{setting_name('shard')} is {self.shard}, and TASKMILL_SHARDS knows only {known}.")
        places = {queue: self.shard or self.shard_of(queue) for queue in self.queues}
        if len(set(places.values())) > 1:
            where = ", ".join(f"{queue} is on {shard}" for queue, shard in places.items())
            raise SettingsError(f"A worker serves queues of one shard, and {where}: start a worker for each of them.")
        return self.at_shard(places[self.queues[0]]).model_copy(update={"shard": None})
