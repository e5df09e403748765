"""One worker process: ours, or a stock arq worker. Started with an order (JSON) as its only argument.

Logs are JSON lines on standard error, the libraries' included, from INFO on.
"""

import importlib
import json
import logging
import os
import sys
import threading
import traceback
from typing import Any

import arq.worker
import structlog
import tools  # noqa: F401 (so that it is imported before workers are forked)

from taskmill.store.formats.queue_names import app_of_source
from taskmill.workers.arq_worker import stock_settings
from taskmill.workers.settings import WorkerSettings
from taskmill.workers.worker import Worker


def work(order: dict[str, Any]) -> None:
    """Work as ordered: `settings` of the worker, `source` of a file in development, `stock`, `without`, `idle_exit`."""
    server = importlib.import_module(order.get("server") or "tools").mcp
    for name in order.get("without", ()):
        server.remove_tool(name)
    settings = WorkerSettings(**order["settings"])
    if (source := order.get("source")) is not None:
        settings = settings.model_copy(update={"app": app_of_source("", source)})
    if order.get("stock"):
        arq.worker.run_worker(stock_settings(lambda: server, settings))  # type: ignore[arg-type]
    else:
        Worker(server, settings, idle_exit=order.get("idle_exit")).run()


def configure() -> None:
    """Every line of the log as JSON on standard error."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, force=True)  # instead of the one that mcp brings


def main(order: dict[str, Any]) -> None:
    """Work, and end the process: 0 when the worker came back by itself, 1 when it raised."""
    configure()
    code = 0
    try:
        work(order)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    left = [thread for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon]
    if left:
        # The interpreter would wait for plain tools that were left behind.
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
