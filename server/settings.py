"""Settings of a server process: `TASKMILL_*` in the environment, or the flags of `taskmill serve`."""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from taskmill.engine.errors import SettingsError
from taskmill.engine.principal import ANONYMOUS, LOCAL, PrincipalLimits
from taskmill.server.auth.settings import AuthenticationSettings
from taskmill.server.limits.limits_file import LimitsFile, read_rules
from taskmill.store.settings import LONGEST, StoreSettings, read_settings

__all__ = ["SamplingSettings", "ServerSettings", "server_settings"]


class ServerSettings(AuthenticationSettings):
    """Where a replica listens, and which clients it serves."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 = any free one."""
    path: str = Field("/mcp", pattern=r"^/")
    """Path of the MCP endpoint."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Host names clients may use, separated by commas; needed beyond localhost."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins whose pages may use the server from a browser, separated by commas; `*` needs authentication."""
    handoff_after: float = Field(50.0, gt=0, le=LONGEST)
    """Seconds after which a call of a client without tasks is handed off, if its host's call timeout is unknown."""
    drop_grace: float = Field(30.0, ge=0, le=LONGEST)
    """Seconds that a held call's task goes on after its client disconnected, so that the same call finds it again."""
    console: bool = True
    """Serve the operators' web page at /console, where it is installed (`taskmill[console]`)."""
    console_session: float = Field(28800.0, ge=60, le=LONGEST)
    """Seconds until an operator has to log in to it again."""
    console_arguments: bool = False
    """Let operators open the arguments of tasks there; each time is in the audit trail."""
    stream_limit: float = Field(0.0, ge=0, le=LONGEST)
    """Seconds after which a resumable stream's connection is closed, for its client to come back; 0 = never."""
    request_timeout: float = Field(30.0, gt=0, le=LONGEST)
    """Seconds that a client has to send the headers of a request, and as many again for its body."""
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ("127.0.0.1", "::1")
    """Addresses and networks of the proxies whose X-Forwarded-For and -Proto are believed, separated by commas."""
    unfinished_requests: int = Field(256, ge=0)
    """Connections of one address that may wait for the rest of a request at the same time; 0 = any number."""
    limits_file: Path | None = None
    """A file of limits for one principal or for a group, which is read again when it changes."""

    _limits: LimitsFile | None = PrivateAttr(None)

    @property
    def limit_rules(self) -> LimitsFile | None:
        """The rules of the file.

        Raises:
            SettingsError: it cannot be read any more.
        """
        if self._limits is None and self.limits_file is not None:
            self._limits = LimitsFile(self.limits_file)
        return self._limits

    def limits_of(self, principal: str, claims: Mapping[str, Any] | None = None) -> PrincipalLimits:
        """See `StoreSettings.limits_of`. `claims`: of the caller's token, for rules that ask for some."""
        usual = super().limits_of(principal)
        if self.limits_file is None or principal in (ANONYMOUS, LOCAL) or (rules := self.limit_rules) is None:
            return usual
        return rules.limits_of(principal, claims or {}, usual)

    @field_validator("limits_file")
    @classmethod
    def _check_rules(cls, value: Path | None) -> Path | None:
        if value is not None:
            try:
                read_rules(value)
            except SettingsError as exc:
                raise ValueError(str(exc).removesuffix(".")) from None
        return value

    @field_validator("allowed_hosts", "cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def _check_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError:
                raise ValueError(f"{network} is no address and no network, such as 10.0.0.0/8") from None
        return value


def server_settings(authored: StoreSettings | None) -> ServerSettings:
    """The settings of a server: what its author or a command set, and the environment for the rest.

    Raises:
        SettingsError: a value that cannot work.
    """
    if isinstance(authored, ServerSettings):
        return authored
    given = authored.model_dump(include=authored.model_fields_set) if authored is not None else {}
    return read_settings(ServerSettings, **given)


class SamplingSettings(BaseSettings):
    """Which model answers `ctx.sample`, in a server and in its workers."""

    model_config = SettingsConfigDict(env_prefix="TASKMILL_", extra="ignore")

    sampling_model: str | None = None
    """The server's own model, `anthropic/NAME` or `openai/NAME`; None = there is only the client's."""
    sampling_from: Literal["client", "server"] = "client"
    """Whose model is asked first: the client's, where it offers one, or always the server's own."""

    @field_validator("sampling_model")
    @classmethod
    def _check_name(cls, name: str | None) -> str | None:
        if name is not None and not re.match(r"(anthropic|openai)/.", name):
            raise ValueError("must be anthropic/NAME or openai/NAME")
        return name
