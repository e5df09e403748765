"""How busy the machine's cores are, and with whom. 0 of everything where the system does not tell (no /proc/stat)."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from bench.stage import Stage

__all__ = ["Busy", "Watch"]

_IDLE, _DISK, _STOLEN = 3, 4, 7
"""Positions in the line for all cores. Waiting for the disk is idle; what the host has stolen is not counted."""


@dataclass(frozen=True)
class Busy:
    """Shares of a stretch of time, in percent."""

    cores: float
    """Of all cores together, whichever process ran."""
    others: float
    """The part of it that was neither the contender, its Redis nor the bench."""
    redis: float
    """Of one core, by Redis."""


class Watch:
    """A stretch of time, from now on."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._began = self._now()

    def busy(self) -> Busy:
        """How it was from the beginning until now."""
        wall, ran, idle, redis, ours = (now - then for now, then in zip(self._now(), self._began, strict=True))
        if not ran + idle:
            return Busy(0.0, 0.0, 0.0)
        cores = ran / (ran + idle)
        others = max(0.0, ran - ours) / (ran + idle)
        return Busy(100 * cores, 100 * others, 100 * redis / wall)

    def _now(self) -> tuple[float, float, float, float, float]:
        """Seconds: the time, all cores' busy and idle ones, those of Redis, and those of all that belongs here."""
        ran, idle = _cores()
        redis = self._stage.redis.program.cpu_seconds()
        return time.monotonic(), ran, idle, redis, redis + self._stage.cpu_seconds() + time.process_time()


def _cores() -> tuple[float, float]:
    try:
        told = Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]
    except OSError:
        return 0.0, 0.0
    ticks = [int(one) / os.sysconf("SC_CLK_TCK") for one in told]
    idle = ticks[_IDLE] + ticks[_DISK]
    return sum(ticks) - idle - ticks[_STOLEN], idle
