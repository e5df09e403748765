"""`python server.py`: what `mcp.run()` in an author's file starts. The entry point `taskmill.runner` names it.

Over standard input and output it is what `taskmill stdio` starts, over HTTP what `taskmill run` starts. Nothing here
serves by itself.
"""

import multiprocessing
import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from taskmill.cli.errors import UsageError, failure_of, print_failure
from taskmill.cli.loading import is_loading
from taskmill.cli.logs import LEVEL, LogLevel, configure
from taskmill.engine.errors import TaskmillError
from taskmill.server.tool_host import ToolHost

__all__ = ["run_server"]

_HTTP = ("http", "streamable-http")
_PATH = "TASKMILL_PATH"


def run_server(server: ToolHost, transport: str, options: Mapping[str, Any]) -> None:
    """Serve until the host closes its side or a signal arrives; ends the process.

    Does nothing while a command loads the author's file, nor in a child process of `multiprocessing`: both run the
    file again, and a file may call `mcp.run()` without a check of `__name__`.
    """
    if is_loading() or multiprocessing.parent_process() is not None:
        return
    try:
        level = _log_level()
        configure(level)
        target = _target_of(server)
        if transport == "stdio":
            _serve_stdio(server, target, options, level)
        elif transport in _HTTP:
            _serve_http(target, options)
        raise UsageError(f"mcp.run() knows no transport {transport!r}: write 'stdio', 'http' or 'streamable-http'.")
    except TaskmillError as exc:
        failure = failure_of(exc)
        print_failure(failure)
        sys.exit(failure.code)


def _serve_stdio(server: ToolHost, target: str, options: Mapping[str, Any], level: LogLevel) -> NoReturn:
    if options:
        raise UsageError(f"mcp.run() over standard input and output takes no {_listed(options)}.")
    from taskmill.cli.stdio.command import serve_stdio
    from taskmill.cli.stdio.early_start import started

    serve_stdio(target, started(), None, level, loaded=server)


def _serve_http(target: str, options: Mapping[str, Any]) -> NoReturn:
    """Become `taskmill run`: what the author's file holds in memory by now would only be held a second time."""
    given = dict(options)
    path = given.pop("path", given.pop("streamable_http_path", None))
    hosts = given.pop("allowed_hosts", None)
    flags = {"--host": given.pop("host", None), "--port": given.pop("port", None)}
    flags["--allowed-hosts"] = hosts if hosts is None or isinstance(hosts, str) else ",".join(hosts)
    if given:
        raise UsageError(
            f"mcp.run() over HTTP takes host, port, path and allowed_hosts, not {_listed(given)}: "
            "serve mcp.http_app() with an ASGI server for more."
        )
    if path is not None:
        os.environ[_PATH] = path
    words = [word for flag, value in flags.items() if value is not None for word in (flag, str(value))]
    sys.stdout.flush()
    # -P: no file in the current directory may hide a library.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "taskmill.cli.main", "run", target, *words])


def _target_of(server: ToolHost) -> str:
    target = server.import_path
    if target is None:
        raise UsageError(
            "mcp.run(): workers are processes of their own and must find this server. Keep it in a variable at the top "
            "level of the file, or start a function that makes it: taskmill run file.py:create"
        )
    return target


def _log_level() -> LogLevel:
    name = os.environ.get(LEVEL, LogLevel.INFO.value)
    try:
        return LogLevel(name.lower())
    except ValueError:
        raise UsageError(f"{LEVEL}={name}: write one of {', '.join(LogLevel)}.") from None


def _listed(options: Mapping[str, Any]) -> str:
    return ", ".join(sorted(options))
