"""How fast the machine is from moment to moment: the same work on all its cores, before and after each case.

A case between two calibrations of which one is slow was measured on a machine that others used, or that was slowed
down: its goals are not judged.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench.contenders import ROOT
from bench.processes import starting

__all__ = ["SLOW", "Calibrations"]

SLOW = 0.85
"""The part of the best pace below which a machine is disturbed. Quiet ones vary by some 5 %."""
_PROGRAM = ROOT / "bench" / "programs" / "pace_of_core.py"


def _measure_pace() -> float:
    """Loops a second, the mean over all cores, all at once."""
    command = [sys.executable, str(_PROGRAM)]
    with ExitStack() as running:
        programs = []
        for _ in range(os.cpu_count() or 1):
            with starting():
                programs.append(running.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)))
                running.callback(programs[-1].kill)
        replies = [program.communicate(timeout=60)[0] for program in programs]
    return sum(1 / float(reply) for reply in replies) / len(replies)


@dataclass(frozen=True)
class Calibrations:
    """The pace before the first case, and behind each."""

    paces: Sequence[float] = ()
    best: float = 0.0
    """The best pace of this machine in earlier runs; 0.0 = none is known."""

    def again(self) -> "Calibrations":
        """With one more, measured now."""
        return Calibrations([*self.paces, _measure_pace()], self.best)

    def disturbance(self, case: int) -> str:
        """What was wrong around the case of that number, in words; "" = nothing."""
        best = max([self.best, *self.paces])
        around = [pace / best for pace in self.paces[case : case + 2]]
        if min(around, default=1.0) >= SLOW:
            return ""
        return "the machine had " + " and ".join(self._in_percent(around)) + " of its best pace before and after"

    @staticmethod
    def _in_percent(parts: Iterable[float]) -> Iterable[str]:
        return (f"{100 * part:.0f} %" for part in parts)
