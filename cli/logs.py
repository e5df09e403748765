"""Logging of every command: structlog and the libraries' `logging`, one format, always on standard error.

Text in a terminal, JSON lines otherwise. Libraries log at WARNING or above, and never at DEBUG: what the protocol's own
library writes there holds arguments and results, which must not be logged. All other loggers are the author's.
"""

import inspect
import io
import logging
import os
import sys
from collections.abc import MutableMapping
from enum import StrEnum
from typing import Any, TextIO, cast

import structlog
from structlog.typing import Processor

from taskmill.cli.terminal.escaping import printable_event
from taskmill.cli.terminal.tracebacks import traceback_text

__all__ = ["LEVEL", "LogForm", "LogLevel", "configure", "configure_as_parent"]

LEVEL = "TASKMILL_LOG_LEVEL"
"""The setting, for those who read it without the command line."""
_INHERITED = "_TASKMILL_LOGS"
"""Environment variable: with it tool processes log in the same way as their worker. No setting: people set others."""
_LIBRARIES = (
    "aiobotocore",
    "aiosqlite",
    "anyio",
    "arq",
    "asyncio",
    "boto3",
    "botocore",
    "concurrent",
    "fastmcp",
    "hpack",
    "httpcore",
    "httpx",
    "httpx2",
    "mcp",
    "multiprocessing",
    "opentelemetry",
    "py.warnings",
    "redis",
    "s3transfer",
    "sse_starlette",
    "starlette",
    "urllib3",
    "uvicorn",
    "watchfiles",
)
"""Loggers of what Taskmill uses. Everything else is of the author, or of what the author chose."""


class LogLevel(StrEnum):
    """The lowest level that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @classmethod
    def _missing_(cls, value: object) -> "LogLevel | None":
        """`INFO` is `info`: `logging` and most programs write levels so."""
        lower = str(value).strip().lower()
        return next((level for level in cls if level.value == lower), None)

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


class _StandardError(io.TextIOBase):
    """Standard error as it is when a line is written: a progress bar takes its place, and puts lines above itself."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure(level: LogLevel, form: LogForm = LogForm.AUTO, *, authors: LogLevel | None = None) -> None:
    """Send all logs of this process to standard error from now on.

    `authors`: the lowest level of the author's own loggers, None = `level`.
    """
    authors, output = authors or level, _StandardError()
    os.environ[_INHERITED] = f"{level.value} {form.value} {authors.value}"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Processor] = [_format_exception, printable_event, _renderer(form)]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=_bound_logger(level, authors),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, output)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(authors.number)
    least = logging.INFO if level is LogLevel.DEBUG else max(level.number, logging.WARNING)
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(least)
    logging.captureWarnings(True)


def _bound_logger(level: LogLevel, authors: LogLevel) -> Any:
    """The class of structlog's loggers. Taskmill's own write from `level` on, the author's from `authors` on."""
    if authors.number >= level.number:
        return structlog.make_filtering_bound_logger(level.number)
    base: Any = structlog.make_filtering_bound_logger(authors.number)

    class ByCaller(base):  # type: ignore[misc]  # the base is made at run time
        def _proxy_to_logger(self, method_name: str, event: str | None = None, *args: Any, **facts: Any) -> Any:
            """Write a line, unless Taskmill has written it and it is below its level."""
            method = inspect.currentframe()
            caller = method and method.f_back and method.f_back.f_back
            name = str(caller.f_globals.get("__name__", "")) if caller else ""
            below = logging.getLevelNamesMapping().get(method_name.upper(), level.number) < level.number
            if below and (name == "taskmill" or name.startswith("taskmill.")):
                return None
            return super()._proxy_to_logger(method_name, event, *args, **facts)

    return ByCaller


def configure_as_parent() -> None:
    """Log as the process that started this one does."""
    level, form, authors = os.environ.get(_INHERITED, "info auto info").split()
    configure(LogLevel(level), LogForm(form), authors=LogLevel(authors))


def _format_exception(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: the traceback of an event, from the author's first line on."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["exception"] = traceback_text(error)
    return event


def _renderer(form: LogForm) -> Any:
    if form is LogForm.JSON or (form is LogForm.AUTO and not sys.stderr.isatty()):
        return structlog.processors.JSONRenderer()
    # Plain tracebacks: the pretty ones show local variables, and so a tool's arguments.
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=24
    )
