"""What a process logs at its start: who it is and what it works with, an event for each subject. No secret is in it.

`serve`, `worker` and `stdio` log it; what they print besides is in their own modules.
"""

import os
import platform
import socket
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import structlog

from taskmill.store.connection.client import redacted_url
from taskmill.store.settings import StoreSettings

if TYPE_CHECKING:
    from taskmill.server.settings import ServerSettings
    from taskmill.server.tool_host import ToolHost
    from taskmill.workers.settings import WorkerSettings

__all__ = ["log_authentication", "log_process", "log_redis", "log_server_limits", "log_tools", "log_worker_limits"]

log = structlog.get_logger()
_SERVER_LIMITS = (
    *("open_limit", "open_limit_total", "running_limit", "kept_limit", "session_limit"),
    *("creation_rate", "request_rate", "request_limit", "max_arguments", "max_result", "redis_full_at"),
)
_WORKER_LIMITS = ("lease", "grace", "tool_timeout", "crash_limit", "drain_limit", "max_result")


def log_process(role: str, settings: StoreSettings, **facts: Any) -> None:
    """Who it is: what it does, its version, and where it runs."""
    log.info(
        "start.process",
        role=role,
        app=settings.app or "",
        version=version("taskmill"),
        python=platform.python_version(),
        host=socket.gethostname(),
        pid=os.getpid(),
        **facts,
    )


def log_redis(settings: StoreSettings, *, embedded: bool = False) -> None:
    """Where the tasks are, and whether they are sealed."""
    if settings.redis_url is None:
        log.info("start.redis", address="none", why="the server has no task tools")
        return
    shards = {"shards": {name: redacted_url(url) for name, url in settings.shards.items()}} if settings.shards else {}
    log.info(
        "start.redis",
        address=redacted_url(settings.redis_url),
        embedded_in=str(settings.home) if embedded else None,
        prefix=settings.prefix,
        sealed=settings.has_seal_keys,
        **shards,
    )


def log_tools(tools: Sequence[str], tasks: Sequence[str], queues: Sequence[str]) -> None:
    """What a server has: how many tools, which of them are tasks, and the queues that need workers."""
    log.info("start.tools", tools=len(tools), tasks=list(tasks), queues=list(queues))


def log_authentication(server: "ToolHost", settings: "ServerSettings", *, operators: bool, console: bool) -> None:
    """Who may call a server, who may operate it, and what is written down of that."""
    if settings.auth_issuer:
        callers = f"tokens of {settings.auth_issuer}"
    else:
        callers = "as the server's own code verifies" if server.has_auth else "anyone, without a token"
    log.info(
        "start.authentication",
        callers=callers,
        operators=operators,
        console=console,
        allowed_hosts=list(settings.allowed_hosts),
        audit=settings.audit or "none",
    )


def log_server_limits(settings: "ServerSettings") -> None:
    """What a server refuses; 0 = no limit."""
    rules = None if settings.limits_file is None else str(settings.limits_file)
    log.info("start.limits", **{name: getattr(settings, name) for name in _SERVER_LIMITS}, limits_file=rules)


def log_worker_limits(settings: "WorkerSettings") -> None:
    """How long a worker lets tasks run, and waits for them; 0 = no limit."""
    log.info("start.limits", **{name: getattr(settings, name) for name in _WORKER_LIMITS})
