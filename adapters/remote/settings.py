"""Settings of servers behind Taskmill: which of their tools are tasks, which may run twice, and the operator's token.

`TASKMILL_*` in the environment, where a command puts its flags too: so child processes have them, and no secret is on a
command line.
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from taskmill.adapters.remote.target import expanded
from taskmill.engine.errors import SettingsError
from taskmill.store.settings import read_settings

__all__ = ["RemoteSettings", "remote_settings", "upstream_headers"]


class RemoteSettings(BaseSettings):
    """What an operator decides about servers that are not ours."""

    model_config = SettingsConfigDict(env_prefix="TASKMILL_", extra="ignore")

    task: Annotated[tuple[str, ...], NoDecode] = ("*",)
    """Patterns of the tools that run as tasks, separated by commas."""
    repeat: Annotated[tuple[str, ...], NoDecode] = ()
    """Patterns of tools that may be called again when their worker has died, separated by commas."""
    upstream_headers: Annotated[tuple[str, ...], NoDecode] = Field((), repr=False)
    """Headers of requests to the server, `Name: value`, a line each; `${NAME}` is a variable of the environment."""
    upstream_token: str | None = Field(None, repr=False)
    """Bearer token for the server of an address."""

    @field_validator("task", "repeat", mode="before")
    @classmethod
    def _split_patterns(cls, value: object) -> object:
        return _parts(value.split(",")) if isinstance(value, str) else value

    @field_validator("upstream_headers", mode="before")
    @classmethod
    def _split_lines(cls, value: object) -> object:
        return _parts(value.splitlines()) if isinstance(value, str) else value


def remote_settings() -> RemoteSettings:
    """The settings of this process.

    Raises:
        SettingsError: a value that cannot work.
    """
    return read_settings(RemoteSettings)


def upstream_headers(settings: RemoteSettings) -> Mapping[str, str]:
    """The headers of requests to the server, with variables replaced and the token among them.

    Raises:
        SettingsError, ServerLoadError: a line is no header, or a variable is not set.
    """
    found: dict[str, str] = {}
    for line in settings.upstream_headers:
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or not name.strip().isascii() or " " in name.strip():
            # Without the line itself: it may hold a secret.
            raise SettingsError('--upstream-header (TASKMILL_UPSTREAM_HEADERS) has to be "Name: value".')
        found[name.strip()] = expanded(value.strip(), f"--upstream-header {name.strip()}")
    if settings.upstream_token and not any(name.lower() == "authorization" for name in found):
        found["Authorization"] = f"Bearer {settings.upstream_token}"
    return found


def _parts(parts: list[str]) -> tuple[str, ...]:
    return tuple(part.strip() for part in parts if part.strip())
