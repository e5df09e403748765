"""`/metrics` for Prometheus. Figures of tasks are read from the store, so that every replica reports the same. Figures
of requests are this process's own, to be summed over the replicas.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskmill.engine.errors import TaskmillError
from taskmill.server.api.access import Access, Guard
from taskmill.server.api.tool_metrics import metrics_by_tool
from taskmill.server.http.middleware import path_of
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.store.formats.queue_names import app_of, author_queue, shared_app
from taskmill.store.formats.sealing import refusals
from taskmill.store.settings import StoreSettings
from taskmill.store.shards import DEFAULT_SHARD
from taskmill.store.tasks.pauses import Pause
from taskmill.store.tasks.stats import Stats, queues_of

__all__ = ["RequestCounter", "metrics_routes"]

Metric = GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily
_METHODS = frozenset({"GET", "POST", "DELETE", "HEAD", "OPTIONS"})


class RequestCounter:
    """Counts the requests of this process by part of the server and status."""

    def __init__(self, mcp_path: str) -> None:
        self.registry = CollectorRegistry()
        self._parts = {mcp_path: "mcp", "/metrics": "metrics", "/healthz": "health", "/readyz": "health"}
        self._counter = Counter(
            "taskmill_http_requests",
            "Requests that were answered by this process.",
            ["part", "method", "status"],
            registry=self.registry,
        )
        self._counters: dict[tuple[str, str, int], Any] = {}
        """By part, method and status; those that have been used."""

    def counting(self, app: ASGIApp) -> ASGIApp:
        """ASGI middleware."""

        async def count(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_counted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    self._count(scope, message["status"])
                await send(message)

            await app(scope, receive, send_counted if scope["type"] == "http" else send)

        return count

    def _count(self, scope: Scope, status: int) -> None:
        path = path_of(scope)
        part = "api" if path.startswith("/api/") else self._parts.get(path, "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        counter = self._counters.get((part, method, status))
        if counter is None:
            counter = self._counters[part, method, status] = self._counter.labels(part, method, str(status))
        counter.inc()


def metrics_routes(runtime: ServerRuntime, access: Access, requests: RequestCounter) -> list[BaseRoute]:
    """`/metrics`: for operators; for all where the server has neither users nor an operator's token."""

    async def metrics(scope: Scope, receive: Receive, send: Send) -> None:
        stored = CollectorRegistry()
        stored.register(_Collected([*await _figures(runtime), _refused(runtime)]))
        text = generate_latest(requests.registry) + generate_latest(stored)
        await Response(text, media_type=CONTENT_TYPE_LATEST)(scope, receive, send)

    return [Route("/metrics", Guard(metrics, access, operators_only=True), methods=["GET"])]


async def _figures(runtime: ServerRuntime) -> list[Metric]:
    if not runtime.keeps_tasks:
        return []
    try:
        app = runtime.settings.app or ""
        # Of this server only: another one in the same Redis has workers and metrics of its own.
        workers = [{**one, "queues": own} for one in await runtime.store.workers() if (own := _queues_for(app, one))]
        queues = {runtime.settings.qualified(policy.queue) for policy in runtime.tools.policies().values()}
        stats = await runtime.store.stats(queues | {name for worker in workers for name in worker["queues"]})
        figures = await runtime.store.figures(shared_app(app))
        pauses = [pause for pause in await runtime.store.pauses() if pause.app == shared_app(app)]
    except TaskmillError:
        return [_up(0)]
    up = _up(int(DEFAULT_SHARD not in stats.unreachable))
    return [
        up,
        *_of_shards(runtime.store.shards, stats),
        *_of_tasks(stats),
        *metrics_by_tool(figures, stats, shared_app(app), runtime.settings.metrics_tools),
        *_of_queues(stats),
        *_of_pauses(pauses, stats),
        *_of_workers(workers),
        *_of_sealing(runtime.settings),
    ]


class _Collected(Collector):
    """Figures that were read from the store for this request."""

    def __init__(self, figures: list[Metric]) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        return self._figures


def _refused(runtime: ServerRuntime) -> Metric:
    refused = CounterMetricFamily(
        "taskmill_refused", "Calls, sessions and requests that this process refused, by limit.", labels=["limit"]
    )
    for limit, count in sorted(runtime.refusals.items()):
        refused.add_metric([limit], count)
    return refused


def _up(value: int) -> Metric:
    return GaugeMetricFamily("taskmill_store_up", "Whether the store answered.", value=value)


def _of_sealing(settings: StoreSettings) -> Iterator[Metric]:
    if settings.has_seal_keys:
        refused = "Stored payloads that this process refused: changed, not sealed, or sealed with an unknown key."
        yield CounterMetricFamily("taskmill_seal_refused", refused, value=refusals.count)


def _of_shards(shards: Sequence[str], stats: Stats) -> Iterator[Metric]:
    up = GaugeMetricFamily("taskmill_shard_up", "Whether a shard's Redis answered.", labels=["shard"])
    for shard in shards:
        up.add_metric([shard], int(shard not in stats.unreachable))
    if shards:
        yield up


def _queues_for(app: str, worker: Mapping[str, Any]) -> list[str]:
    """The queues of an app that a worker serves."""
    return [name for name in queues_of(worker) if app_of(name) == app]


def _of_tasks(stats: Stats) -> Iterator[Metric]:
    yield GaugeMetricFamily("taskmill_tasks_open", "Tasks that have not ended.", value=stats.open)
    yield GaugeMetricFamily("taskmill_tasks_kept", "Tasks that can be read, ended ones included.", value=stats.kept)
    broken = "Tasks that broke for good and were not run again."
    yield GaugeMetricFamily("taskmill_dead_letters", broken, value=stats.dead_letters)
    waiting = "Webhooks that are not delivered, given up or not."
    yield GaugeMetricFamily("taskmill_webhooks_undelivered", waiting, value=stats.undelivered_webhooks)


def _of_queues(stats: Stats) -> Iterator[Metric]:
    tasks = GaugeMetricFamily("taskmill_tasks", "Open tasks by state.", labels=["queue", "status"])
    depth = GaugeMetricFamily("taskmill_queue_depth", "Tasks that wait for a worker now.", labels=["queue"])
    oldest = GaugeMetricFamily("taskmill_queue_oldest_seconds", "How long the first has waited.", labels=["queue"])
    for queue in stats.queues:
        name = author_queue(queue.name)
        depth.add_metric([name], queue.due)
        oldest.add_metric([name], queue.oldest_ms / 1000)
        for status, count in sorted(queue.by_status.items()):
            tasks.add_metric([name, status], count)
    yield from (tasks, depth, oldest)


def _of_pauses(pauses: Sequence[Pause], stats: Stats) -> Iterator[Metric]:
    """What is paused, with the value 1, and how many tasks that holds; nothing of what is not."""
    paused = GaugeMetricFamily("taskmill_paused", "Queues and tools that are paused.", labels=["kind", "name"])
    for pause in pauses:
        paused.add_metric([pause.kind, pause.name], 1)
    held = GaugeMetricFamily("taskmill_tasks_held", "Tasks that wait for the end of a pause.", labels=["queue"])
    for queue in stats.queues:
        if queue.held:
            held.add_metric([author_queue(queue.name)], queue.held)
    yield from (paused, held)


def _of_workers(workers: list[dict[str, Any]]) -> Iterator[Metric]:
    alive = GaugeMetricFamily("taskmill_workers", "Live workers.", labels=["queue"])
    slots = GaugeMetricFamily("taskmill_worker_slots", "Tasks they can run at a time.", labels=["queue"])
    busy = GaugeMetricFamily("taskmill_worker_slots_busy", "Tasks they run, as last reported.", labels=["queue"])
    for queue in sorted({name for worker in workers for name in queues_of(worker)}):
        serving = [worker for worker in workers if queue in queues_of(worker)]
        labels = [author_queue(queue)]
        alive.add_metric(labels, len(serving))
        slots.add_metric(labels, sum(worker["concurrency"] for worker in serving))
        busy.add_metric(labels, sum(worker["running"] for worker in serving))
    yield from (alive, slots, busy)
