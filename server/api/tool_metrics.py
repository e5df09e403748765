"""The metrics by tool, made of the figures that all processes of an app have counted.

Their number is bounded: beyond `TASKMILL_METRICS_TOOLS` tools, all others have figures together, as `other`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from taskmill.engine.outcome import OutcomeKind
from taskmill.engine.status import Status
from taskmill.store.formats.queue_names import app_of, author_queue
from taskmill.store.metrics.counts import BUCKETS, Counted
from taskmill.store.metrics.figures import OTHER, Figures
from taskmill.store.tasks.stats import Stats

__all__ = ["metrics_by_tool"]

_COUNTERS = {
    Counted.CREATED: ("taskmill_tasks_created", "Tasks that were created, by what created them.", "client"),
    Counted.STARTED: ("taskmill_attempts_started", "Attempts that workers began.", None),
    Counted.FAILED: ("taskmill_attempts_failed", "Attempts that raised, timed out or died, by why.", "reason"),
    Counted.RETRIED: (
        "taskmill_retries",
        "Attempts that another one followed for the tool's sake, by why.",
        "reason",
    ),
    Counted.RESCUED: ("taskmill_rescues", "Tasks that were taken over from a worker that died.", None),
    Counted.ASKED: ("taskmill_questions", "Questions that tools asked clients.", None),
    Counted.HANDED_OFF: ("taskmill_hand_offs", "Calls that were answered with a task to follow, by client.", "client"),
}
"""Metric, what it says, and the name of its label, if it has one."""
_TIMES = {
    Counted.WAITED: (Counted.WAITED_MS, "taskmill_task_wait_seconds", "How long tasks waited for a worker."),
    Counted.RAN: (Counted.RAN_MS, "taskmill_task_run_seconds", "How long attempts ran."),
}
_FROM_ZERO = frozenset({Counted.RESCUED, Counted.ASKED})
"""Shown with 0 of each tool too: Prometheus does not see the first one in a counter that was not there before."""
_BOUNDS = [*map(str, BUCKETS), "+Inf"]


def metrics_by_tool(
    figures: Figures, stats: Stats, app: str, most: int
) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
    """All metrics with a label `tool`. `app`: whose tasks count; `most`: tools that have figures of their own."""
    known = sorted({(author_queue(queue), tool) for _, queue, _, tool in figures.rows})
    yield _ended(figures, stats, app, most, known)
    for what, (name, says, label) in _COUNTERS.items():
        metric = CounterMetricFamily(name, says, labels=["queue", "tool", *([label] if label else [])])
        for (counted, queue, value, tool), times in sorted(figures.rows.items()):
            if counted is what:
                metric.add_metric([author_queue(queue), tool, *([value] if label else [])], times)
        if what in _FROM_ZERO:
            seen = {(author_queue(queue), tool) for counted, queue, _, tool in figures.rows if counted is what}
            for queue, tool in (pair for pair in known if pair not in seen):
                metric.add_metric([queue, tool], 0)
        yield metric
    for buckets, (sums, name, says) in _TIMES.items():
        yield _histogram(figures, buckets, sums, HistogramMetricFamily(name, says, labels=["queue", "tool"]))


def _ended(
    figures: Figures, stats: Stats, app: str, most: int, known: Sequence[tuple[str, str]]
) -> CounterMetricFamily:
    rows = Counter({(outcome.value, queue, tool): 0 for outcome in OutcomeKind for queue, tool in known})
    for (outcome, queue, tool), count in stats.ended_by_tool.items():
        if app_of(queue) == app:
            named = tool if not tool or tool in figures.tools or len(figures.tools) < most else OTHER
            rows[outcome, author_queue(queue), named] += count
    ended = CounterMetricFamily(
        "taskmill_tasks_ended", "Tasks that ended, by how.", labels=["queue", "tool", "status", "outcome"]
    )
    for (outcome, queue, tool), count in sorted(rows.items()):
        ended.add_metric([queue, tool, _status_of(outcome), outcome], count)
    return ended


def _status_of(outcome: str) -> str:
    """The state of tasks that ended so."""
    return outcome if outcome in (Status.FAILED, Status.CANCELLED) else Status.COMPLETED.value


def _histogram(
    figures: Figures, buckets: Counted, sums: Counted, metric: HistogramMetricFamily
) -> HistogramMetricFamily:
    counts: Mapping[tuple[str, str], list[int]] = defaultdict(lambda: [0] * len(_BOUNDS))
    for (counted, queue, bucket, tool), times in figures.rows.items():
        if counted is buckets and bucket.isdigit() and int(bucket) < len(_BOUNDS):
            counts[queue, tool][int(bucket)] += times
    for (queue, tool), row in sorted(counts.items()):
        total = figures.rows.get((sums, queue, "-", tool), 0) / 1000
        cumulative = [(bound, float(below)) for bound, below in zip(_BOUNDS, accumulate(row), strict=True)]
        metric.add_metric([author_queue(queue), tool], cumulative, sum_value=total)
    return metric
