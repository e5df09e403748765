"""Hypothesis at the wheel: how examples are made, in CI always the same ones."""

import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.report import Report

__all__ = ["drive", "drive_with"]

Judge = Callable[[Any], tuple[list[str], str]]
"""Faults of the example that is made of what was drawn, and the example in words."""


def drive(report: Report, judge: Judge, *, examples: int, size: int, is_random: bool) -> None:
    """Judge so many examples made of `size` bytes each; the plainest failing one that was met is kept."""
    drive_with(report, judge, st.binary(min_size=size, max_size=size), examples=examples, is_random=is_random)


def drive_with(
    report: Report, judge: Judge, strategy: st.SearchStrategy[Any], *, examples: int, is_random: bool
) -> None:
    """The same with examples of any strategy."""
    failing: list[tuple[list[str], str]] = []

    @settings(
        max_examples=examples,
        derandomize=not is_random,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(data: Any) -> None:
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
