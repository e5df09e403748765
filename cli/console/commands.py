"""`taskmill console`: the command with its options."""

from typing import Annotated

import typer

from taskmill.cli import options
from taskmill.cli.logs import LogForm, LogLevel, configure

__all__ = ["console"]

_PORT = 8090


def console(
    redis_url: options.RedisUrl = None,
    host: options.Host = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 = any free one.")] = _PORT,
    allowed_hosts: options.AllowedHosts = None,
    log_level: options.Level = LogLevel.WARNING,
    log_form: options.Form = LogForm.AUTO,
) -> None:
    """Show the operators' web page of a Redis: tasks, queues, workers, and what can be done to them.

    A server shows the same at /console to its own operators.
    """
    configure(log_level, log_form)
    from taskmill.cli.settings import settings_where_tasks_are
    from taskmill.server.settings import ServerSettings

    flags = {"host": host, "port": port, "allowed_hosts": allowed_hosts}
    settings = settings_where_tasks_are(ServerSettings, redis_url, "--redis-url (TASKMILL_REDIS_URL)", **flags)
    from taskmill.cli.console.program import serve_console

    serve_console(settings)
