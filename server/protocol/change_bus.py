"""Who in this process is sent that a list of the server has changed: streams of `subscriptions/listen`, and, before
2026, sessions' own streams and connections over pipes.

Nothing here decides what has changed. Source: base specification, subscriptions; 2025-11-25, "List Changed
Notification".
"""

import asyncio
from collections.abc import Callable
from typing import Any

from mcp.server.subscriptions import SubscriptionBus
from mcp.shared.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ServerEvent,
    ToolsListChanged,
    event_to_notification,
)

__all__ = ["LIST_CHANGES", "ChangeBus", "list_change_notification"]

LIST_CHANGES: dict[str, ServerEvent] = {
    "tools": ToolsListChanged(),
    "resources": ResourcesListChanged(),
    "prompts": PromptsListChanged(),
}
"""The event by what is listed; templates of resources count as resources."""


class ChangeBus(SubscriptionBus):
    """The SDK's bus, which also tells whether there is a listener. Used in one event loop."""

    def __init__(self) -> None:
        self._listeners: dict[object, Callable[[ServerEvent], None]] = {}
        self._has_listeners = asyncio.Event()

    @property
    def has_listeners(self) -> bool:
        """Whether there is one now."""
        return bool(self._listeners)

    async def wait_for_listener(self) -> None:
        """Return as soon as there is one."""
        await self._has_listeners.wait()

    async def publish(self, event: ServerEvent) -> None:
        """Send an event to each listener; returns without waiting for them."""
        for listener in list(self._listeners.values()):
            listener(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Have `listener`, which must not raise, called for each event; returns what ends that."""
        token = object()
        self._listeners[token] = listener
        self._has_listeners.set()

        def unsubscribe() -> None:
            self._listeners.pop(token, None)
            if not self._listeners:
                self._has_listeners.clear()

        return unsubscribe


def list_change_notification(event: ServerEvent) -> dict[str, Any] | None:
    """The event as a JSON-RPC message of a revision before 2026; None = it is one that wants a subscription."""
    if event not in LIST_CHANGES.values():
        return None
    sent = event_to_notification(event, {}).model_dump(by_alias=True, mode="json", include={"method"})
    return {"jsonrpc": "2.0", **sent}
