"""Logging of every command: structlog and the libraries' `logging`, one format, always on standard error.

Text in a terminal, JSON lines otherwise. Libraries say at most INFO: what the protocol's own library writes at DEBUG
holds arguments and results, which are nobody's business.
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
"""Environment variables by which the processes of isolated tools log as their worker does."""


class LogLevel(StrEnum):
    """From which level on lines are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def number(self) -> int:
        """As `logging` counts."""
        return logging.getLevelNamesMapping()[self.value.upper()]


class LogForm(StrEnum):
    """What a line looks like."""

    AUTO = "auto"
    """Text in a terminal, JSON otherwise."""
    TEXT = "text"
    JSON = "json"


def configure(level: LogLevel, form: LogForm = LogForm.AUTO) -> None:
    """Send everything that is logged in this process to standard error from now on."""
    os.environ[LEVEL], os.environ[FORM] = level.value, form.value
    stamps: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Processor] = [structlog.processors.format_exc_info, printable_event, _renderer(form)]
    structlog.configure(
        processors=[*stamps, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level.number),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*stamps, structlog.stdlib.add_logger_name],
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
    # Plain tracebacks: the pretty ones show local variables, a tool's arguments among them.
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=24
    )
