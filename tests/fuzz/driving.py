"""Hypothesis at the wheel: how examples are made from bytes, in CI always the same ones."""

import time
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fuzz.report import Report

__all__ = ["drive"]

Judge = Callable[[bytes], tuple[list[str], str]]
"""Faults of the example that these bytes make, and the example in words."""


def drive(report: Report, judge: Judge, *, examples: int, size: int, is_random: bool) -> None:
    """Judge so many examples of `size` bytes each; the plainest failing one that was met is kept."""
    failing: list[tuple[list[str], str]] = []

    @settings(
        max_examples=examples,
        derandomize=not is_random,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.binary(min_size=size, max_size=size))
    def run(data: bytes) -> None:
        report.examples += 1
        faults, said = judge(data)
        if faults:
            failing.append((faults, said))
        assert not faults

    begun = time.perf_counter()
    try:
        run()
    except BaseException:
        # What is attacked changes with every example, so the same bytes may be answered well the second time.
        if not failing:
            raise
    report.seconds += time.perf_counter() - begun
    if failing:
        report.found(*min(failing, key=lambda one: len(one[1])))
