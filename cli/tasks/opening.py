"""Chooses where `taskmill tasks` looks: at a server, at a Redis, or at the embedded one if it is up."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext

from taskmill.cli.errors import UsageFault, only_cause
from taskmill.cli.tasks.source import TaskSource

__all__ = ["at_source"]


def at_source(
    work: Callable[[TaskSource], Awaitable[int]], *, url: str | None, token: str | None, redis_url: str | None
) -> int:
    """Do the work where the command line, or the environment, says that the tasks are.

    Raises:
        UsageFault, SettingsError: there is nowhere to look.
        TaskmillError: what came of it.
    """
    if url is not None:
        from taskmill.cli.tasks.http_source import over_http

        return asyncio.run(over_http(work, url, token))
    from taskmill.store.embedded.user_lock import is_guarded
    from taskmill.store.settings import StoreSettings, read_settings

    settings = read_settings(StoreSettings, redis_url=redis_url)
    if settings.redis_url is None and not is_guarded(settings.home):
        raise UsageFault(
            f"No server is up in {settings.home}. Say where the tasks are: --url http://host:port of a running server, "
            "or --redis-url (TASKMILL_REDIS_URL)."
        )
    from taskmill.cli.settings import redis_for
    from taskmill.cli.tasks.redis_source import over_redis

    with nullcontext(settings) if settings.redis_url else redis_for(settings) as ready, only_cause():
        return asyncio.run(over_redis(work, ready))
