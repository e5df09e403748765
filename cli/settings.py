"""What a process of a loaded server needs: its settings, and a Redis. Nothing here checks either."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from taskmill.server.tool_host import ToolHost
from taskmill.store.embedded.server import EmbeddedRedis
from taskmill.store.settings import StoreSettings, read_settings

__all__ = ["redis_for", "settings_for"]

S = TypeVar("S", bound=StoreSettings)


def settings_for(kind: type[S], server: ToolHost, **flags: Any) -> S:
    """Settings of a process. Flags come first (None = not given), then the author's `store=`, then the environment.

    Raises:
        SettingsError: a value is not valid.
    """
    author_settings = server.store_settings
    values = author_settings.model_dump(include=author_settings.model_fields_set) if author_settings is not None else {}
    return read_settings(kind, **values | {name: value for name, value in flags.items() if value is not None})


@contextmanager
def redis_for(settings: S) -> Iterator[S]:
    """The settings with the address of a Redis: the one that they name, else the embedded one of their directory.

    Raises:
        NoRedisServer, SettingsError, OperatorError: the embedded Redis cannot start; see `EmbeddedRedis.start`.
    """
    if settings.redis_url is not None:
        yield settings
        return
    with EmbeddedRedis(settings.home) as redis:
        yield settings.model_copy(update={"redis_url": redis.url})
