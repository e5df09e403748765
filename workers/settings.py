"""Settings of a worker process: `TASKMILL_*` in the environment, or the flags of `taskmill worker`."""

import shlex
import shutil
from typing import Self

from pydantic import Field, field_validator

from taskmill.engine.errors import SettingsError
from taskmill.engine.policy import LEAST_MEMORY, LEAST_OPEN_FILES, Limits
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
    tool_timeout: float = Field(0.0, ge=0, le=LONGEST)
    """Seconds that an attempt of a tool may run whose policy names no `timeout`; 0 = no limit."""
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
    schedules: bool = True
    """Whether it makes the tasks of tools that run by themselves; false = it leaves that to other workers."""
    isolation_command: str | None = None
    """Command and its options in front of each tool process's own, as a shell splits it; None = nothing."""
    isolation_env: str = "*"
    """Variables of the worker's that tool processes get: names and patterns, separated by commas; `!` excludes."""
    isolation_uses: int = Field(1000, ge=1, le=1_000_000)
    """Tasks that one tool process runs before another takes its place."""
    isolation_memory_limit: int | None = Field(None, ge=LEAST_MEMORY)
    """Bytes that an isolated tool may use at most; None = as its `TaskConfig` says."""
    isolation_cpu_limit: float | None = Field(None, gt=0, le=LONGEST)
    """Seconds of processor time that an attempt of one may use at most; None = as its `TaskConfig` says."""
    isolation_process_limit: int | None = Field(None, ge=0)
    """Processes that one may have started at the same time; None = as its `TaskConfig` says."""
    isolation_open_file_limit: int | None = Field(None, ge=LEAST_OPEN_FILES)
    """Files that each process of one may have open; None = as its `TaskConfig` says."""
    isolation_file_size_limit: int | None = Field(None, ge=1)
    """Bytes of each file that one may write; None = as its `TaskConfig` says."""

    @field_validator("isolation_command")
    @classmethod
    def _check_command(cls, value: str | None) -> str | None:
        try:
            words = shlex.split(value or "")
        except ValueError as exc:
            raise ValueError(f"it cannot be split into words: {exc}") from exc
        if words and shutil.which(words[0]) is None:
            raise ValueError(f"there is no command {words[0]} on the PATH")
        return value

    @property
    def isolation_prefix(self) -> tuple[str, ...]:
        """The words of `isolation_command`."""
        return tuple(shlex.split(self.isolation_command or ""))

    @property
    def isolation_limits(self) -> Limits:
        """What any isolated tool may use at most."""
        return Limits(
            memory=self.isolation_memory_limit,
            cpu=self.isolation_cpu_limit,
            processes=self.isolation_process_limit,
            open_files=self.isolation_open_file_limit,
            file_size=self.isolation_file_size_limit,
        )

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
        if self.shard is None and not self.shards:
            return self  # they know one Redis, the shard of their own
        places = {queue: self.shard or self.shard_of(queue) for queue in self.queues}
        if len(set(places.values())) > 1:
            where = ", ".join(f"{queue} is on {shard}" for queue, shard in places.items())
            raise SettingsError(f"A worker serves queues of one shard, and {where}: start a worker for each of them.")
        return self.at_shard(places[self.queues[0]]).model_copy(update={"shard": None})
