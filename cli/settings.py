"""What a process of a loaded server needs: its settings, and a Redis. Nothing here checks either.

Secrets of the settings are taken out of what other processes of the user see of this one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from taskmill.cli.errors import UsageError
from taskmill.store.embedded.server import EmbeddedRedis
from taskmill.store.embedded.stored_data import stored_data
from taskmill.store.embedded.user_lock import is_supervised
from taskmill.store.formats.queue_names import app_of_source
from taskmill.store.setting_names import given_by_flag
from taskmill.store.settings import StoreSettings, read_settings
from taskmill.workers.isolation.secrets import close_process, cover_secrets, secrets_of

if TYPE_CHECKING:
    from taskmill.server.tool_host import ToolHost

__all__ = ["needs_embedded", "read_covered", "redis_for", "settings_for", "settings_where_tasks_are"]

S = TypeVar("S", bound=StoreSettings)


def settings_for(kind: type[S], server: "ToolHost", source: str | None = None, **flags: Any) -> S:
    """Settings of a process. Flags come first (None = not given), then the author's `store=`, then the environment.

    `source`: see `cli/source.py`; None = the server is not under development.

    Raises:
        SettingsError: a value is not valid.
    """
    given_by_flag(flags)
    author_settings = server.store_settings
    values = author_settings.model_dump(include=author_settings.model_fields_set) if author_settings is not None else {}
    given = {name: value for name, value in flags.items() if value is not None}
    settings = read_covered(kind, **values | given)
    if any(policy.isolation == "process" for policy in server.policies().values()):
        close_process()
    if source is None:
        return settings.for_app(server.name)
    return settings.model_copy(update={"app": app_of_source(settings.app or "", source)})


def settings_where_tasks_are(kind: type[S], redis_url: str | None, ways: str, **flags: Any) -> S:
    """Settings of a command that looks at tasks: the Redis that is given, else the embedded one of this directory.

    `ways`: how else one can say where the tasks are, for the error.

    Raises:
        UsageError: neither is there.
        SettingsError: a value is not valid.
    """
    given_by_flag({"redis_url": redis_url, **flags})
    given = {name: value for name, value in flags.items() if value is not None}
    settings = read_settings(kind, redis_url=redis_url, **given)
    if settings.redis_url is None and not is_supervised(settings.home) and stored_data(settings.home) is None:
        raise UsageError(
            f"No server runs in {settings.home}, and it holds no tasks. "
            f"Say where the tasks are: {ways}, or TASKMILL_HOME."
        )
    return settings


def read_covered(kind: type[S], **overrides: Any) -> S:
    """`read_settings`; their secrets are then covered where other processes of the user see them."""
    settings = read_settings(kind, **overrides)
    cover_secrets(secrets_of(settings, os.environ))
    return settings


def needs_embedded(settings: StoreSettings, server: "ToolHost") -> bool:
    """Whether a server needs the embedded Redis: it needs one, and its settings name no other."""
    return settings.redis_url is None and server.needs_store


@contextmanager
def redis_for(settings: S, server: "ToolHost | None" = None) -> Iterator[S]:
    """The settings with the address of a Redis: the one that they name, else the embedded one of their directory.

    They stay without an address where `server` needs no Redis.

    Raises:
        NoRedisServer, SettingsError, OperatorError: the embedded Redis cannot start; see `EmbeddedRedis.start`.
    """
    if settings.redis_url is not None or (server is not None and not needs_embedded(settings, server)):
        yield settings
        return
    with EmbeddedRedis(settings.home) as redis:
        yield settings.model_copy(update={"redis_url": redis.url})
