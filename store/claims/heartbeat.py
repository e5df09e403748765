"""Reports a worker as alive from outside its event loop: leases and health key, over a blocking connection."""

import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import OutOfMemoryError, RedisError

from taskmill.engine.errors import StoreUnavailable
from taskmill.engine.status import TERMINAL
from taskmill.store.claims.claims import ClaimStore
from taskmill.store.connection.client import connect_blocking
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.worker_orders import WorkerOrders, order_fields, orders_of

__all__ = ["Heartbeat"]


class Heartbeat:
    """For one thread; reconnects by itself at the next call."""

    def __init__(self, settings: StoreSettings, claims: ClaimStore, worker: str) -> None:
        self._redis = connect_blocking(settings)
        self._claims = claims
        self._lease_ms = settings.lease_ms
        self._worker = worker
        self._health = claims.keys.worker(worker)
        self._workers = claims.keys.workers
        self._orders = claims.keys.orders
        self._order_fields = order_fields(worker, socket.gethostname())
        self.orders = WorkerOrders()
        """What operators wanted of this worker at the last renewal."""

    def renew(self, held: Sequence[tuple[str, int]], health: Mapping[str, Any]) -> list[str]:
        """Renew the leases of (id, fence) pairs and report the worker as alive; the ids whose lease is lost.

        Raises:
            StoreUnavailable: the leases were perhaps not renewed; call again soon.
        """
        try:
            lost: list[bytes] = []
            if held:
                lost = self._claims.scripts.run_blocking(self._redis, *self._claims.renew_call(held))
            self._report(health)
        except (RedisError, OSError) as exc:
            raise StoreUnavailable from exc
        return [task_id.decode() for task_id in lost]

    def ended_of(self, task_ids: Sequence[str]) -> set[str]:
        """Those of these tasks that have ended, or are gone: no other attempt at them will follow. For a few tasks.

        Raises:
            StoreUnavailable: nothing is known.
        """
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for task_id in task_ids:
                    pipe.hget(self._claims.keys.record(task_id), "status")
                states = pipe.execute()
        except (RedisError, OSError) as exc:
            raise StoreUnavailable from exc
        return {
            task_id
            for task_id, status in zip(task_ids, states, strict=True)
            if status is None or status.decode() in TERMINAL
        }

    def _report(self, health: Mapping[str, Any]) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.pexpire(self._health, self._lease_ms)
            pipe.set(self._health, json.dumps(dict(health)), px=self._lease_ms)
            pipe.sadd(self._workers, self._worker)
            pipe.pexpire(self._workers, 3 * self._lease_ms)
            pipe.hmget(self._orders, self._order_fields)
            *replies, orders = pipe.execute(raise_on_error=False)
            if not isinstance(orders, Exception):
                self.orders = orders_of(orders)
            for reply in replies:
                # A full Redis keeps the report that it has, and the leases are renewed all the same.
                if isinstance(reply, Exception) and not isinstance(reply, OutOfMemoryError):
                    raise reply

    def leave(self) -> None:
        """Drop the health key and the connection; it would expire anyway."""
        try:
            self._redis.delete(self._health)
            self._redis.srem(self._workers, self._worker)
            self._redis.hdel(self._orders, *(name for name in self._order_fields if name.endswith(f" {self._worker}")))
        except (RedisError, OSError):
            pass
        self._redis.close()
