"""arq's formats: the job it would find in Redis, written and read as JSON, never pickle.

A job names one registered function and carries the task id alone; arguments stay in our own, sealed key.
"""

import json
from time import time
from typing import Any
from urllib.parse import unquote, urlsplit

from arq.connections import RedisSettings

from taskmill.store.connection.client import address_errors
from taskmill.store.connection.sentinel import sentinel_target_of
from taskmill.store.formats.tls_options import CHECKS_HOST, tls_options_of
from taskmill.store.settings import StoreSettings

__all__ = ["JOB_FUNCTION", "arq_job", "arq_redis_settings", "job_from_json", "job_to_json"]

JOB_FUNCTION = "taskmill"
"""Name of the arq function that runs any task; `lua/reconcile.lua` writes it too."""


def arq_job(task_id: str) -> bytes:
    """The job as arq stores it: try, function, arguments, keywords, enqueue time (for arq's log only)."""
    return json.dumps({"t": None, "f": JOB_FUNCTION, "a": [task_id], "k": {}, "et": int(time() * 1000)}).encode()


def job_to_json(job: dict[str, Any]) -> bytes:
    """arq's job_serializer; what is not JSON (a result, an exception) is kept as its type's name."""
    return json.dumps(job, default=lambda value: type(value).__name__).encode()


def job_from_json(stored: bytes) -> dict[str, Any]:
    """arq's job_deserializer."""
    job: dict[str, Any] = json.loads(stored)
    return job


def arq_redis_settings(settings: StoreSettings) -> RedisSettings:
    """Our address as arq wants it.

    Raises:
        SettingsError: it is no address of a Redis.
    """
    url = settings.redis_url or ""
    if settings.keys().in_cluster:
        return RedisSettings()  # arq cannot use a cluster; our worker, which arq's is a base of, connects by itself
    target = sentinel_target_of(url)
    if target is not None:
        return RedisSettings(
            host=list(target.sentinels),
            sentinel=True,
            sentinel_master=target.name,
            database=target.options["db"],
            username=target.options["username"],
            password=target.options["password"],
            ssl=target.is_tls,
            ssl_check_hostname=target.options.get(CHECKS_HOST, False),
            conn_retries=10,
        )
    with address_errors():
        arq = RedisSettings.from_dsn(url)
    parts = urlsplit(url)
    if parts.password:
        arq.password = unquote(parts.password)
    arq.ssl_check_hostname = tls_options_of(url).get(CHECKS_HOST, False)
    arq.conn_retries = 10
    return arq
