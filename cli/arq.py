"""`arq taskmill.cli.arq.WorkerSettings`: tasks on a stock arq worker. TASKMILL_SERVER names the file.

It is correct, but slower than `taskmill worker`. For deployments that start arq themselves.
"""

import logging
import os
import sys
from typing import Any

from taskmill.cli.errors import failure_of, print_failure
from taskmill.cli.loading import load_server
from taskmill.cli.logs import LogLevel, configure
from taskmill.cli.settings import settings_for
from taskmill.engine.errors import SettingsError, TaskmillError
from taskmill.store.embedded.server import EmbeddedRedis
from taskmill.workers.arq_worker import stock_settings
from taskmill.workers.settings import WorkerSettings as Settings

__all__ = ["WorkerSettings"]

_FILE = "TASKMILL_SERVER"
_embedded: list[EmbeddedRedis] = []
"""The embedded Redis, if it is used: kept open until this process ends."""

WorkerSettings: type


def __getattr__(name: str) -> Any:
    if name != "WorkerSettings":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return _worker_settings()
    except TaskmillError as exc:
        # arq would print a traceback.
        failure = failure_of(exc)
        print_failure(failure)
        sys.exit(failure.code)


def _worker_settings() -> type:
    configure(LogLevel(os.environ.get("TASKMILL_LOG_LEVEL", LogLevel.INFO.value)))
    # arq has a handler of its own for its own lines.
    logging.getLogger("arq").propagate = False
    file = os.environ.get(_FILE)
    if not file:
        raise SettingsError(f"No server is named: set {_FILE} to file.py or package.module:name.")
    server = load_server(file)
    settings = settings_for(Settings, server).at_own_shard()
    if settings.redis_url is None:
        redis = EmbeddedRedis(settings.home)
        settings = settings.model_copy(update={"redis_url": redis.start()})
        _embedded.append(redis)
    return stock_settings(lambda: server, settings)
