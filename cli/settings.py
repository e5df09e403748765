"""What a process of a loaded server needs: its settings, and a Redis. Nothing here checks either."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from taskmill.store.embedded.server import EmbeddedRedis
from taskmill.store.formats.queue_names import app_of_source
from taskmill.store.settings import StoreSettings, read_settings

if TYPE_CHECKING:
    from taskmill.server.tool_host import ToolHost

__all__ = ["redis_for", "settings_for"]

S = TypeVar("S", bound=StoreSettings)


def settings_for(kind: type[S], server: "ToolHost", source: str | None = None, **flags: Any) -> S:
    """Settings of a process. Flags come first (None = not given), then the author's `store=`, then the environment.

    `source`: see `cli/source.py`; None = the server is not under development.

    Raises:
        SettingsError: a value is not valid.
    """
    author_settings = server.store_settings
    values = author_settings.model_dump(include=author_settings.model_fields_set) if author_settings is not None else {}
    settings = read_settings(kind, **values | {name: value for name, value in flags.items() if value is not None})
    if source is None:
        return settings.for_app(server.name)
    return settings.model_copy(update={"app": app_of_source(settings.app or "", source)})


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
