"""Settings of the store: where Redis is, and the limits it enforces. `TASKMILL_*` in the environment."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, PrivateAttr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from taskmill.engine.errors import SettingsError
from taskmill.engine.outcome import OutcomeKind, choose_words
from taskmill.engine.policy import check_webhook_url
from taskmill.engine.principal import ANONYMOUS, LOCAL, PrincipalLimits
from taskmill.store.formats.audit_sinks import sinks_of
from taskmill.store.formats.cluster_address import cluster_address_of, cluster_part_of
from taskmill.store.formats.key_texts import check_seal_keys, parse_seal_keys, parse_transition, parse_webhook_secrets
from taskmill.store.formats.keys import Keys
from taskmill.store.formats.queue_names import app_of_name, author_queue, qualified_queue
from taskmill.store.setting_names import setting_name
from taskmill.store.shards import DEFAULT_SHARD, parse_pairs, shard_map_error

__all__ = ["LONGEST", "StoreSettings", "read_settings"]

S = TypeVar("S", bound=BaseSettings)
LONGEST = 100 * 365 * 24 * 3600.0
"""Seconds, a hundred years: no setting is longer, so that every length can be counted in milliseconds."""


class StoreSettings(BaseSettings):
    """Where tasks are kept and how much of them."""

    model_config = SettingsConfigDict(env_prefix="TASKMILL_", extra="ignore")

    redis_url: str | None = Field(None, repr=False)
    """redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://; None = the embedded server."""
    shards: Annotated[dict[str, str], NoDecode] = Field({}, repr=False)
    """Further Redis servers by name; each has the queue of its name, and the queues that `queue_shards` puts there."""
    queue_shards: Annotated[dict[str, str], NoDecode] = Field({}, validate_default=False)
    """The shard of each queue that is neither on the shard of its name nor on the default shard, `home`."""
    home: Path = Path(".taskmill")
    """Directory of the embedded server's data."""
    prefix: str = Field("taskmill", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """Keeps several deployments in one Redis apart."""
    app: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]{0,64}$")
    """Whose tasks these are: only workers of the same app run them. None = the server's name; empty = any worker."""
    lease: float = Field(15.0, ge=0.3, le=3600)
    """Seconds after which a silent worker's task is given to another."""
    crash_limit: int = Field(3, ge=0)
    """How many workers a task may lose before it is given up."""
    drain_limit: int = Field(100, ge=0)
    """How often drains may interrupt a task before it is given up, 0 = no limit."""
    open_limit: int = Field(10_000, ge=0)
    """Open tasks of one principal, 0 = no limit."""
    open_limit_total: int = Field(1_000_000, ge=0)
    """Open tasks of all principals, 0 = no limit."""
    running_limit: int = Field(0, ge=0)
    """Tasks of one principal that run at the same time, of tools without a lane; 0 = no limit."""
    kept_limit: int = Field(100_000, ge=0)
    """Ended tasks of one principal that are kept, 0 = no limit."""
    kept_bytes_limit: int = Field(256 * 1024 * 1024, ge=0)
    """Bytes of one principal's arguments, results and histories that are kept, 0 = no limit."""
    creation_rate: float = Field(100.0, ge=0, le=1_000_000)
    """Task calls a second that a replica accepts of one principal, ten seconds' worth at once; 0 = no limit."""
    request_rate: float = Field(300.0, ge=0, le=1_000_000)
    """Requests a second that a replica answers to one principal, ten seconds' worth at once; 0 = no limit."""
    request_limit: int = Field(1000, ge=0)
    """Requests of one principal that a replica serves at the same time, streams included; 0 = no limit."""
    redis_full_at: float = Field(90.0, ge=0, le=100)
    """Percent of Redis's `maxmemory` from which on new tasks are refused, so that running ones can end; 0 = never."""
    max_arguments: int = Field(1024 * 1024, ge=1)
    """Bytes of one call's arguments."""
    max_result: int = Field(8 * 1024 * 1024, ge=1)
    """Bytes of one result."""
    inline_result: int = Field(4 * 1024 * 1024, ge=1)
    """Bytes of one result above which its largest parts become artifacts, and links stand in their place."""
    artifacts: str = Field("redis", pattern=r"^(redis|dir:.+|s3://[^/?#]+(/[^?#]*)?)$")
    """Where large artifacts go: redis, dir:/shared/path or s3://bucket/prefix."""
    max_artifact: int = Field(5 * 1024**3, ge=1)
    """Bytes of one artifact in the directory or bucket."""
    max_artifact_in_redis: int = Field(16 * 1024 * 1024, ge=1)
    """Bytes of one artifact in Redis."""
    max_chunk: int = Field(64 * 1024, ge=1)
    """Bytes of one emitted chunk."""
    max_output: int = Field(1024 * 1024, ge=1)
    """Bytes of emitted chunks kept of one task; the oldest fall off."""
    max_step: int = Field(1024 * 1024, ge=1)
    """Bytes of one step's result."""
    max_journal: int = Field(64 * 1024 * 1024, ge=1)
    """Bytes of all step results of one task."""
    max_state: int = Field(64 * 1024, ge=1)
    """Bytes of one task's state."""
    max_state_value: int = Field(64 * 1024, ge=1)
    """Bytes of one value that tools keep for a session or a principal."""
    state_limit: int = Field(100, ge=1)
    """Values that tools may keep for one session, or for one principal."""
    state_ttl: float = Field(30 * 24 * 3600.0, ge=1, le=LONGEST)
    """Seconds after it was last set that such a value is kept; one of a session no longer than its session."""
    retention_limit: float = Field(30 * 24 * 3600.0, ge=1, le=LONGEST)
    """Seconds an ended task can be kept at most, whatever its tool's policy is."""
    session_idle: float = Field(24 * 3600.0, ge=1, le=LONGEST)
    """Seconds after which an idle session of a revision before 2026 ends."""
    session_limit: int = Field(1000, ge=0)
    """Open sessions of one principal, 0 = no limit."""
    session_limit_total: int = Field(100_000, ge=0)
    """Open sessions of all principals, 0 = no limit."""
    audit: str = ""
    """Where the audit trail goes: log, file:PATH or redis, separated by commas; empty = there is none."""
    audit_retention: float = Field(90 * 24 * 3600.0, ge=60, le=LONGEST)
    """Seconds that the audit trail in Redis keeps a record at most."""
    audit_entries: int = Field(100_000, ge=1)
    """Records that the audit trail in Redis keeps, about; the oldest fall off."""
    audit_names: bool = False
    """Whether the audit trail names users and their clients readably, beside the digest."""
    caller_errors: Literal["none", "text", "traceback"] = "none"
    """What callers see of exceptions that ended attempts of their own tasks: class and text, or the traceback too."""
    metrics_tools: int = Field(100, ge=0, le=1000)
    """Tools of an app that have metrics of their own; those of the others are counted together, as `other`."""
    command_timeout: float = Field(5.0, gt=0, le=LONGEST)
    """Seconds after which a silent Redis counts as unreachable."""
    seal_keys: Annotated[tuple[bytes, ...], NoDecode] = Field((), repr=False)
    """AES-256 keys for payloads at rest, base64, separated by commas; the first seals, all open."""
    seal_keys_file: Path | None = None
    """File with such keys, read again when it changes; blank lines and lines that begin with # do not count."""
    seal_key_provider: str | None = Field(None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """`package.module:function` that returns such keys, for a key management service."""
    seal_keys_refresh: float = Field(60.0, gt=0, le=LONGEST)
    """Seconds between readings of the file, or calls of the function."""
    seal_accept_unsealed: bool | datetime | None = None
    """Whether, or until when, stored payloads that are not sealed are read in spite of keys: for a transition."""
    webhook_secret: Annotated[tuple[bytes, ...], NoDecode] = Field((), repr=False)
    """Secrets that sign webhooks, `whsec_` and base64, separated by commas; every one of them signs."""
    webhook_secret_file: Path | None = None
    """File with such secrets, read again when it changes; blank lines and lines that begin with # do not count."""
    webhook_allow_private: bool = False
    """Whether webhooks may go to private addresses, and there by http too."""
    webhook_url: str | None = Field(None, repr=False)
    """Where a signed request goes for each task that has ended, of tools whose `TaskConfig` names nothing else."""
    webhook_events: Annotated[frozenset[OutcomeKind], NoDecode] = frozenset(OutcomeKind)
    """The ends that are sent to webhooks, separated by commas."""
    webhook_result: bool = False
    """Whether webhooks get the result of the task, or its error."""
    webhook_timeout: float = Field(10.0, gt=0, le=300)
    """Seconds that a receiver has to answer."""
    webhook_backoff: float = Field(5.0, gt=0, le=3600)
    """Seconds before a webhook's first retry; three times as many before each further one, an hour at most."""
    webhook_give_up: float = Field(24 * 3600.0, gt=0, le=25 * 24 * 3600.0)
    """Seconds after the end of its task after which a webhook is tried no more."""

    @field_validator("redis_url")
    @classmethod
    def _check_cluster_address(cls, value: str | None) -> str | None:
        cluster_address_of(value or "")
        return value

    @field_validator("shards", "queue_shards", mode="before")
    @classmethod
    def _split_pairs(cls, value: object) -> object:
        return parse_pairs(value) if isinstance(value, str) else value

    @field_validator("shards", "queue_shards")
    @classmethod
    def _check_map(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        is_queues = info.field_name == "queue_shards"
        shards = info.data.get("shards", {}) if is_queues else value
        fault = shard_map_error(info.data.get("redis_url"), shards, value if is_queues else {})
        if fault is not None:
            raise ValueError(fault)
        return value

    @field_validator("audit")
    @classmethod
    def _check_sinks(cls, value: str) -> str:
        sinks_of(value)
        return value

    @field_validator("seal_keys", mode="before")
    @classmethod
    def _decode_keys(cls, value: object) -> object:
        return parse_seal_keys(value) if isinstance(value, str) else value

    @field_validator("seal_keys")
    @classmethod
    def _measure_keys(cls, keys: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return check_seal_keys(keys)

    @field_validator("seal_keys_file", "seal_key_provider")
    @classmethod
    def _check_one_source(cls, value: object, info: ValidationInfo) -> object:
        others = [name for name in ("seal_keys", "seal_keys_file") if name != info.field_name and info.data.get(name)]
        if value is not None and others:
            raise ValueError(f"keys come from one place, and {setting_name(others[0])} is set, too")
        return value

    @field_validator("seal_accept_unsealed", mode="before")
    @classmethod
    def _parse_transition(cls, value: object) -> object:
        return parse_transition(value) if isinstance(value, str) else value

    @field_validator("webhook_secret", mode="before")
    @classmethod
    def _decode_secrets(cls, value: object) -> object:
        return parse_webhook_secrets(value) if isinstance(value, str) else value

    @field_validator("webhook_secret_file")
    @classmethod
    def _check_one_place(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and info.data.get("webhook_secret"):
            raise ValueError(f"secrets come from one place, and {setting_name('webhook_secret')} is set, too")
        return value

    @field_validator("webhook_url")
    @classmethod
    def _check_webhook(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        check_webhook_url(value)
        if value.startswith("http:") and not info.data.get("webhook_allow_private"):
            raise ValueError(
                "it must begin with https://; http is for private hosts, with TASKMILL_WEBHOOK_ALLOW_PRIVATE=1"
            )
        if not (info.data.get("webhook_secret") or info.data.get("webhook_secret_file")):
            raise ValueError("it needs TASKMILL_WEBHOOK_SECRET (try: echo whsec_$(openssl rand -base64 32))")
        return value

    @field_validator("webhook_events", mode="before")
    @classmethod
    def _choose_events(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return choose_words("it", [word.strip() for word in value.split(",") if word.strip()], OutcomeKind)

    @property
    def signs_webhooks(self) -> bool:
        """Whether there are secrets to sign webhooks with; without, none are sent."""
        return bool(self.webhook_secret or self.webhook_secret_file)

    def webhook_of(self, tool: str | Literal[False] | None) -> str | None:
        """Where webhooks of a tool go, by what its `TaskConfig` says; None = nowhere."""
        return None if tool is False or not self.signs_webhooks else tool or self.webhook_url

    def webhook_ends(self, tool: str | Literal[False] | None) -> str:
        """The ends that are sent to the webhook of a tool, as `NewTask.webhook` has them."""
        return " ".join(sorted(self.webhook_events)) if self.webhook_of(tool) else ""

    @property
    def has_seal_keys(self) -> bool:
        """Whether payloads are sealed, with keys from wherever."""
        return bool(self.seal_keys or self.seal_keys_file or self.seal_key_provider)

    _default_url: str | None = PrivateAttr(None)
    """Where the default shard is, for the settings of another one."""

    _own_shard: str = PrivateAttr(DEFAULT_SHARD)

    @property
    def lease_ms(self) -> int:
        """The lease in whole milliseconds."""
        return int(self.lease * 1000)

    def keys(self) -> Keys:
        """The keys of the deployment on the Redis of these settings."""
        in_cluster, part = cluster_part_of(self.redis_url)
        return Keys(self.prefix, in_cluster=in_cluster, part=part)

    def limits_of(self, principal: str) -> PrincipalLimits:
        """What the settings permit to one principal; 0 = no limit.

        Without authentication all callers are one principal. It has no one to leave room for, but for the open tasks,
        which have always been counted for it too.
        """
        if principal in (ANONYMOUS, LOCAL):
            return PrincipalLimits(open_tasks=self.open_limit)
        return PrincipalLimits(
            open_tasks=self.open_limit,
            running_tasks=self.running_limit,
            kept_tasks=self.kept_limit,
            kept_bytes=self.kept_bytes_limit,
            sessions=self.session_limit,
            creations=self.creation_rate,
            requests=self.request_rate,
            open_requests=self.request_limit,
        )

    def shard_of(self, queue: str) -> str:
        """Where new tasks of a queue go; the author's name of it, or the qualified one."""
        queue = author_queue(queue)
        return self.queue_shards.get(queue) or (queue if queue in self.shards else DEFAULT_SHARD)

    def for_app(self, name: str) -> Self:
        """The settings of a server of this name: its tasks have an app."""
        return self if self.app is not None else self.model_copy(update={"app": app_of_name(name)})

    def qualified(self, queue: str) -> str:
        """An author's queue as Redis has it."""
        return qualified_queue(self.app or "", queue)

    def at_shard(self, name: str) -> Self:
        """The settings of a process that knows this shard only."""
        url = self.redis_url if name == DEFAULT_SHARD else self.shards[name]
        settings = self.model_copy(update={"redis_url": url, "shards": {}, "queue_shards": {}})
        settings._own_shard = name
        if name != DEFAULT_SHARD:
            settings._default_url = self.redis_url
        return settings

    @property
    def own_shard(self) -> str:
        """The shard that these settings are of, where they know one only."""
        return self._own_shard

    def at_default_shard(self) -> Self | None:
        """The settings of the default shard, for a process of another one; None = these are."""
        return None if self._default_url is None else self.model_copy(update={"redis_url": self._default_url})

    def kept_for(self, retention: timedelta) -> timedelta:
        """`retention`, cut to the limit."""
        return min(retention, timedelta(seconds=self.retention_limit))


def read_settings(kind: type[S], **overrides: Any) -> S:
    """Settings of `kind` from the environment; overrides that are not None win.

    Raises:
        SettingsError: a value that cannot work; the message names each setting (see `setting_names.py`) and never
            shows a secret.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return kind(**given)
    except ValidationError as exc:
        faults = "; ".join(
            f"{setting_name('_'.join(str(part) for part in error['loc']))}: "
            f"{error['msg'].removeprefix('Value error, ').removeprefix('Input ').removeprefix('String ')}"
            for error in exc.errors(include_input=False, include_url=False)
        )
        raise SettingsError(f"Settings that cannot work: {faults}") from None
