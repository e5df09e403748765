"""What operators want of workers: to take no tasks, or another number of slots. Kept in Redis until it is taken back.

An order is for one worker, and ends with it, or for a host: for all workers there, those too that start later. A worker
reads its orders with every renewal of its leases, and at once when a message on its channel says so.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from taskmill.store.connection.client import store_errors
from taskmill.store.formats.keys import Keys

__all__ = ["ORDERS_MESSAGE", "Order", "WorkerOrders", "give_order", "order_fields", "orders_of", "read_orders"]

ORDERS_MESSAGE = "orders"
"""On a worker's channel: its orders have changed."""
_ASPECTS = ("drained", "slots")


@dataclass(frozen=True, slots=True)
class Order:
    """What one operator wants of one aspect of a worker."""

    value: int
    """Slots; or 1 = take no tasks, 0 = take tasks although the host's order says otherwise."""
    by: str = ""
    at_ms: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WorkerOrders:
    """The orders that count for one worker: its own come before those of its host."""

    drained: Order | None = None
    slots: Order | None = None

    @property
    def is_drained(self) -> bool:
        """Whether it is to take no tasks."""
        return self.drained is not None and bool(self.drained.value)


def order_fields(worker: str, host: str) -> list[str]:
    """The fields of the hash of orders that a worker reads."""
    return [f"{aspect} {target}" for aspect in _ASPECTS for target in (worker, host)]


def orders_of(stored: Sequence[bytes | None]) -> WorkerOrders:
    """What `order_fields` held."""
    drained, drained_host, slots, slots_host = (_order_of(value) for value in stored)
    return WorkerOrders(drained or drained_host, slots or slots_host)


async def read_orders(redis: Redis, keys: Keys, workers: Iterable[Mapping[str, Any]]) -> list[WorkerOrders]:
    """The orders of each of these workers, by their reports."""
    fields = [order_fields(str(one["worker"]), str(one.get("host"))) for one in workers]
    if not fields:
        return []
    stored: Any = await redis.hmget(keys.orders, [name for names in fields for name in names])  # type: ignore[misc]
    return [orders_of(stored[4 * at : 4 * at + 4]) for at in range(len(fields))]


async def give_order(
    redis: Redis, keys: Keys, aspect: str, target: str, order: Order | None, workers: Sequence[str]
) -> None:
    """Give an order to a worker or a host, or take it back, and tell these workers, which are all that it is for.

    An order to a host takes back those of its workers one by one.
    """
    others = [f"{aspect} {name}" for name in workers if name != target]
    with store_errors():
        async with redis.pipeline(transaction=True) as pipe:
            if others:
                pipe.hdel(keys.orders, *others)
            if order is None:
                pipe.hdel(keys.orders, f"{aspect} {target}")
            else:
                facts = {"value": order.value, "by": order.by, "at_ms": order.at_ms, "reason": order.reason}
                pipe.hset(keys.orders, f"{aspect} {target}", json.dumps(facts))
            for name in workers:
                pipe.publish(keys.signal(name), ORDERS_MESSAGE)
            await pipe.execute()


def _order_of(stored: bytes | None) -> Order | None:
    if stored is None:
        return None
    try:
        facts = json.loads(stored)
        return Order(int(facts["value"]), str(facts["by"]), int(facts["at_ms"]), str(facts["reason"]))
    except (ValueError, LookupError, TypeError):
        return None  # another program wrote it
