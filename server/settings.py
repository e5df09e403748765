"""Settings of a server process: `WINDLASS_*` in the environment, or the flags of `windlass serve`."""

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from windlass.store.settings import StoreSettings

__all__ = ["ServerSettings"]


class ServerSettings(StoreSettings):
    """Where a replica listens, and to whom."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 = any free one."""
    path: str = Field("/mcp", pattern=r"^/")
    """Path of the MCP endpoint."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Host names clients may use, separated by commas; needed beyond localhost."""
    api_operator_token: str | None = Field(None, min_length=16, repr=False)
    """Bearer token of somebody who may see and end every task over the HTTP API; None = nobody may."""

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
