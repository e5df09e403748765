"""Logging of every command: structlog and the libraries' `logging`, one format, always on standard error.

Text in a terminal, JSON lines otherwise. Libraries log at INFO or above: what the protocol's own library writes at
DEBUG holds arguments and results, which must not be logged.
"""

import logging
import os
import sys
from enum import StrEnum
from typing import Any

import structlog
from structlog.typing import Processor

from taskmill.cli.terminal.escaping import printable_event

__all__ = ["FORM", "LEVEL", "LogForm", "LogLevel", "configure"]

LEVEL = "TASKMILL_LOG_LEVEL"
FORM = "TASKMILL_LOG_FORM"
"""Environment variables: with them tool processes log in the same way as their worker."""


class LogLevel(StrEnum):
    """The lowest level that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def number(self) -> int:
        """The number of this level in `logging`."""
        return logging.getLevelNamesMapping()[self.value.upper()]


class LogForm(StrEnum):
    """The format of a line."""

    AUTO = "auto"
    """Text in a terminal, JSON otherwise."""
    TEXT = "text"
    JSON = "json"


def configure(level: LogLevel, form: LogForm = LogForm.AUTO) -> None:
    """Send all logs of this process to standard error from now on."""
    os.environ[LEVEL], os.environ[FORM] = level.value, form.value
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Processor] = [structlog.processors.format_exc_info, printable_event, _renderer(form)]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level.number),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO if level is LogLevel.DEBUG else max(level.number, logging.WARNING))
    logging.captureWarnings(True)


def _renderer(form: LogForm) -> Any:
    if form is LogForm.JSON or (form is LogForm.AUTO and not sys.stderr.isatty()):
        return structlog.processors.JSONRenderer()
    # Plain tracebacks: the pretty ones show local variables, and so a tool's arguments.
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=24
    )
