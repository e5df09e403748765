"""`subscriptions/listen`: the SDK's change notifications and, for `taskIds`, `notifications/tasks`.

Events come from the store's feed, so the worker, the replica that created the task and this one may be three
processes. Source: base specification, subscriptions; tasks extension, "Task Status Notifications".
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import anyio
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY, ListenHandler, SubscriptionBus
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ServerEvent, event_matches, event_to_notification
from mcp_types import (
    INVALID_PARAMS,
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
)
from pydantic import BaseModel

from taskmill.engine.errors import StoreUnavailable, TaskNotFound
from taskmill.server.auth.principal import owner
from taskmill.server.protocol.client_class import require_tasks
from taskmill.server.protocol.errors import wire_errors
from taskmill.server.protocol.shapes_2026 import detailed_task
from taskmill.server.streams.sse import BACKLOG
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.store.connection.retry import until_available
from taskmill.store.pubsub.task_feed import Subscription
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["TaskListenHandler"]

_MOST_TASKS = 1000


class _TaskNotification(BaseModel):
    method: str = "notifications/tasks"
    params: dict[str, Any]


class TaskListenHandler:
    """Serves `subscriptions/listen`; a request without `taskIds` is the SDK's own."""

    def __init__(self, bus: SubscriptionBus, runtime: ServerRuntime) -> None:
        self._bus = bus
        self._runtime = runtime
        self._plain = ListenHandler(bus)

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """One stream: first the acknowledgement, then every task's present state, then each change."""
        wanted = (params.notifications.model_extra or {}).get("taskIds")
        if wanted is None:
            return await self._plain(ctx, params)
        require_tasks(ctx)
        is_list = isinstance(wanted, list) and len(wanted) <= _MOST_TASKS
        if not is_list or not all(isinstance(task_id, str) for task_id in wanted):
            raise MCPError(INVALID_PARAMS, f"notifications.taskIds must be a list of at most {_MOST_TASKS} task ids")
        with wire_errors():
            store = self._runtime.store
            agreed = [task_id for task_id in dict.fromkeys(wanted) if await _is_visible(store, task_id, owner(ctx))]
        await _TaskSubscription(ctx, store, self._bus, params.notifications, agreed).run()
        return SubscriptionsListenResult(_meta={SUBSCRIPTION_ID_META_KEY: ctx.request_id})


async def _is_visible(store: TaskStore, task_id: str, principal: str) -> bool:
    try:
        await store.read(task_id, principal)
    except TaskNotFound:
        return False
    return True


class _TaskSubscription:
    """One open stream with task ids."""

    def __init__(
        self,
        ctx: ServerRequestContext[Any, Any],
        store: TaskStore,
        bus: SubscriptionBus,
        wanted: SubscriptionFilter,
        task_ids: list[str],
    ) -> None:
        self._ctx = ctx
        self._store = store
        self._bus = bus
        self._task_ids = task_ids
        self._owner = owner(ctx)
        self._meta = {SUBSCRIPTION_ID_META_KEY: ctx.request_id}
        self._honored = SubscriptionFilter(
            tools_list_changed=wanted.tools_list_changed or None,
            prompts_list_changed=wanted.prompts_list_changed or None,
            resources_list_changed=wanted.resources_list_changed or None,
            resource_subscriptions=wanted.resource_subscriptions or None,
            **{"taskIds": task_ids} if task_ids else {},
        )
        self._sent: dict[str, int] = {}
        """Task id -> number of its last event that was sent."""

    async def run(self) -> None:
        """Send changes until the client disconnects."""
        send, receive = anyio.create_memory_object_stream[ServerEvent](BACKLOG)
        uris = frozenset(self._honored.resource_subscriptions or ())

        def deliver(event: ServerEvent) -> None:
            if event_matches(self._honored, uris, event):
                try:
                    send.send_nowait(event)
                except (anyio.WouldBlock, anyio.ClosedResourceError):
                    send.close()

        unsubscribe = self._bus.subscribe(deliver)
        try:
            async with send, receive, self._store.feed.follow(*self._task_ids) as subscription:
                await self._notify(self._acknowledgement())
                async with anyio.create_task_group() as group:
                    group.start_soon(self._push_tasks, subscription)
                    async for event in receive:
                        await self._notify(event_to_notification(event, self._meta))
                    group.cancel_scope.cancel()  # the client reads too slowly: end, it will listen again
        finally:
            unsubscribe()

    async def _push_tasks(self, subscription: Subscription) -> None:
        updated: Iterable[str] = self._task_ids
        while True:
            waiting = dict.fromkeys(updated)
            await until_available(partial(self._push_all, waiting))
            updated = await subscription.updates()

    async def _push_all(self, waiting: dict[str, None]) -> None:
        """Send these tasks. Those that are sent leave `waiting`, so that a second call sends the rest only.

        Raises:
            StoreUnavailable: for some of them the store did not answer.
        """
        for task_id in list(waiting):
            if await self._push(task_id):
                del waiting[task_id]
        if waiting:
            raise StoreUnavailable

    async def _push(self, task_id: str) -> bool:
        """Send the task as `tasks/get` shows it now, if it has changed; False when the store did not answer."""
        try:
            view = await self._store.read(task_id, self._owner)
        except TaskNotFound:
            return True
        except StoreUnavailable:
            return False
        if view.record.seq > self._sent.get(task_id, 0):
            self._sent[task_id] = view.record.seq
            shown = detailed_task(view)
            meta = {**shown.get("_meta", {}), **self._meta}
            await self._notify(_TaskNotification(params={**shown, "_meta": meta}))
        return True

    def _acknowledgement(self) -> SubscriptionsAcknowledgedNotification:
        params = SubscriptionsAcknowledgedNotificationParams(notifications=self._honored, _meta=self._meta)
        return SubscriptionsAcknowledgedNotification(params=params)

    async def _notify(self, notification: Any) -> None:
        await self._ctx.session.send_notification(notification, related_request_id=self._ctx.request_id)
