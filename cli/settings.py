"""What a process of a loaded server runs with: its settings, and a Redis. Neither is judged here."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from taskmill.server.tool_host import ToolHost
from taskmill.store.embedded.server import EmbeddedRedis
from taskmill.store.settings import StoreSettings, read_settings

__all__ = ["redis_for", "settings_for"]

S = TypeVar("S", bound=StoreSettings)


def settings_for(kind: type[S], server: ToolHost, **flags: Any) -> S:
    """Settings of a process: its flags (None = not given), then the author's `store=`, then the environment.

    Raises:
        SettingsError: a value that cannot work.
    """
    authored = server.store_settings
    given = authored.model_dump(include=authored.model_fields_set) if authored is not None else {}
    return read_settings(kind, **given | {name: value for name, value in flags.items() if value is not None})


@contextmanager
def redis_for(settings: S) -> Iterator[S]:
    """The settings with the address of a Redis in them: the one they name, else the embedded one of their directory.

    Raises:
        NoRedisServer, SettingsError, OperatorError: there is no embedded Redis to be had; see `EmbeddedRedis.start`.
    """
    if settings.redis_url is not None:
        yield settings
        return
    with EmbeddedRedis(settings.home) as redis:
        yield settings.model_copy(update={"redis_url": redis.url})
