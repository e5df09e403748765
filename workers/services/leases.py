"""Renews the leases of this process from a thread and a connection of its own, and writes its health key.

A tool that blocks the event loop must not lose its lease, so nothing here may depend on the loop. Only the news of a
lost lease is passed to it.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

import structlog

from taskmill.engine.errors import StoreUnavailable
from taskmill.store.claims.heartbeat import Heartbeat
from taskmill.store.tasks.worker_orders import WorkerOrders
from taskmill.workers.attempts.active import ActiveTasks, Stop

__all__ = ["LeaseKeeper"]

log = structlog.get_logger()
_OUTAGE_PAUSE = 0.5
"""Seconds between tries while Redis does not answer."""


class LeaseKeeper:
    """A background service: start, stop."""

    def __init__(
        self,
        heartbeat: Heartbeat,
        active: ActiveTasks,
        lease: float,
        health: Callable[[], Mapping[str, Any]],
        *,
        obey: Callable[[WorkerOrders], None],
    ) -> None:
        """`obey`: called in the event loop with what operators want of this worker, when that has changed."""
        self._heartbeat = heartbeat
        self._active = active
        self._every = lease / 3
        self._health = health
        self._obey = obey
        self._orders = WorkerOrders()
        self._stopping = threading.Event()
        self._renew_soon = threading.Event()
        self._thread = threading.Thread(target=self._run, name="taskmill.leases", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()
        self._registered = asyncio.Event()

    def start(self) -> None:
        """Start renewing; call from the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def wait_until_registered(self) -> None:
        """Return when the health key is written: from then on everyone sees that this worker serves its queues."""
        await self._registered.wait()

    def renew_now(self) -> None:
        """Renew at once, because the health has changed."""
        self._renew_soon.set()

    async def stop(self) -> None:
        """Stop renewing and drop the health key; returns when the thread has ended."""
        # Not `to_thread(join)`: tools may block every thread of the loop's executor for ever.
        self._stopping.set()
        self._renew_soon.set()
        await self._ended.wait()

    def _run(self) -> None:
        try:
            self._renew_until_stopped()
            self._heartbeat.leave()
        finally:
            self._set(self._ended)

    def _renew_until_stopped(self) -> None:
        down = False
        while not self._stopping.is_set():
            self._renew_soon.clear()
            active = self._active.fences()
            began = monotonic()
            try:
                lost = self._heartbeat.renew(active, self._health())
            except StoreUnavailable:
                if not down:
                    log.warning("store.unreachable", held=len(active))
                down = True
                self._stopping.wait(min(_OUTAGE_PAUSE, self._every))
                continue
            self._pass_on_orders()
            self._set(self._registered)
            if down:
                log.info("store.back", held=len(active))
                down = False
            if lost:
                self._pass_on(lost, dict(active), self._ended_of(lost))
            self._active.renewed([one for one in active if one[0] not in lost], began)
            self._renew_soon.wait(self._every)

    def _pass_on_orders(self) -> None:
        orders = self._heartbeat.orders
        if orders != self._orders and self._loop is not None and not self._loop.is_closed():
            self._orders = orders
            self._loop.call_soon_threadsafe(self._obey, orders)

    def _set(self, event: asyncio.Event) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(event.set)

    def _ended_of(self, lost: list[str]) -> set[str]:
        """Which of these have ended: mostly they were cancelled, and the push did not come."""
        try:
            return self._heartbeat.ended_of(lost)
        except StoreUnavailable:
            return set()

    def _pass_on(self, lost: list[str], fences: dict[str, int], ended: set[str]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop_lost, lost, fences, ended)

    def _stop_lost(self, lost: list[str], fences: dict[str, int], ended: set[str]) -> None:
        for task_id in lost:
            task = self._active.find(task_id)
            if task is not None and task.fence == fences[task_id]:
                log.info("lease.lost", task_id=task_id, fence=task.fence)
                task.stop(Stop.LOST, is_last=task_id in ended)
