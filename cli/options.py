"""Options that several commands share, each declared once: its name, type and help text."""

import os
from collections.abc import Sequence
from time import time
from typing import Annotated, Any

import typer

from taskmill.cli.logs import LogForm, LogLevel
from taskmill.engine.errors import BadArguments
from taskmill.engine.timing.start_time import start_ms

__all__ = [
    "AllowedHosts",
    "Answer",
    "AuthAudience",
    "AuthIssuer",
    "AuthorsLevel",
    "CallWords",
    "Concurrency",
    "CorsOrigin",
    "Delay",
    "Everything",
    "File",
    "Form",
    "Grace",
    "Host",
    "Json",
    "Level",
    "LevelOfCall",
    "NotBefore",
    "OptionalFile",
    "ParentSocket",
    "Port",
    "Queue",
    "RedisUrl",
    "Repeat",
    "Shard",
    "SomeTaskIds",
    "Source",
    "TaskId",
    "TaskIds",
    "TaskPatterns",
    "Token",
    "TokenOfCall",
    "UpstreamHeader",
    "Url",
    "UrlOfCall",
    "Where",
    "Workers",
    "Yes",
    "flag",
    "give_upstream_options",
    "start_of",
]

TOKEN = "TASKMILL_TOKEN"  # noqa: S105 - the name of a variable


def flag(name: str, text: str) -> Any:
    """A flag, which takes no value: its help names no type."""
    return typer.Option(name, help=text, metavar="")


def give_upstream_options(
    task: Sequence[str] | None, repeat: Sequence[str] | None, headers: Sequence[str] | None
) -> None:
    """Put these options where child processes find them too: a header may be a secret, and command lines are public."""
    for name, values, separator in (
        ("TASKMILL_TASK", task, ","),
        ("TASKMILL_REPEAT", repeat, ","),
        ("TASKMILL_UPSTREAM_HEADERS", headers, "\n"),
    ):
        if values:
            os.environ[name] = separator.join(values)


def start_of(delay: float | None, not_before: str | None) -> dict[str, Any]:
    """`--delay` and `--not-before` as the API takes them, as far as they are given."""
    if delay is not None and not_before is not None:
        raise typer.BadParameter("Give either --delay or --not-before.")
    return {name: given for name, given in (("delay", delay), ("not_before", not_before)) if given is not None}


def _checked_start(delay: float | None, not_before: str | None) -> float | str | None:
    try:
        start_ms(delay, not_before, int(time() * 1000), names=("it", "it"))
    except BadArguments as exc:
        raise typer.BadParameter(str(exc)) from None
    return not_before if delay is None else delay


_FILE_HELP = (
    "The server: file.py, file.py:name, package.module or package.module:name; NAME may be a function too. Or one that "
    "is not yours: https://host/mcp, a .json file with mcpServers, or, behind all options, -- COMMAND ARGS."
)

File = Annotated[str, typer.Argument(metavar="FILE", help=_FILE_HELP, show_default=False)]
OptionalFile = Annotated[str | None, typer.Argument(metavar="[FILE]", help=_FILE_HELP, show_default=False)]
CallWords = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILE TOOL [KEY=VALUE]...", help="Server, tool and arguments.", show_default=False),
]
Answer = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Answer to a question of the tool; repeated for more. Or: decline."),
]
TaskPatterns = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        help="Tools of a server that is not ours that run as tasks; repeated (TASKMILL_TASK).",
        metavar="PATTERN",
        show_default="every tool",
    ),
]
Repeat = Annotated[
    list[str] | None,
    typer.Option(
        "--repeat",
        help="Tools of such a server that may be called again when their worker died; repeated (TASKMILL_REPEAT).",
        metavar="PATTERN",
        show_default="those annotated readOnlyHint or idempotentHint",
    ),
]
UpstreamHeader = Annotated[
    list[str] | None,
    typer.Option(
        "--upstream-header",
        help="Header for such a server; ${NAME} is a variable; repeated (TASKMILL_UPSTREAM_HEADERS).",
        metavar='"NAME: VALUE"',
    ),
]
RedisUrl = Annotated[
    str | None,
    typer.Option(
        help="redis://, rediss:// or unix:// (TASKMILL_REDIS_URL). Without it: the embedded Redis.",
        envvar="_TASKMILL_REDIS_URL",  # how a command hands the flag to its children: see processes/secret_words.py
        show_envvar=False,
    ),
]
Host = Annotated[str | None, typer.Option(help="Address to listen on (TASKMILL_HOST).", show_default="127.0.0.1")]
Port = Annotated[int | None, typer.Option(help="Port to listen on, 0 = any (TASKMILL_PORT).", show_default="8000")]
AllowedHosts = Annotated[
    str | None,
    typer.Option(help="Host names clients use, separated by commas (TASKMILL_ALLOWED_HOSTS).", metavar="A,B"),
]
CorsOrigin = Annotated[
    str | None,
    typer.Option(help="Origins whose pages may use the server from a browser (TASKMILL_CORS_ORIGINS).", metavar="A,B"),
]
AuthIssuer = Annotated[
    str | None,
    typer.Option(help="Authorization server whose tokens are accepted (TASKMILL_AUTH_ISSUER).", metavar="URL"),
]
AuthAudience = Annotated[
    str | None, typer.Option(help="What tokens must name in aud (TASKMILL_AUTH_AUDIENCE).", metavar="A,B")
]
Concurrency = Annotated[
    int | None, typer.Option(help="Tasks a worker runs at the same time (TASKMILL_CONCURRENCY).", show_default="10")
]
Workers = Annotated[int, typer.Option(min=1, help="Worker processes for each queue.")]
Grace = Annotated[
    float | None,
    typer.Option(
        help="Seconds that active tasks may still run when the worker is stopped (TASKMILL_GRACE).", show_default="30"
    ),
]
Queue = Annotated[
    list[str] | None,
    typer.Option(help="Queue to serve: A,B or repeated (TASKMILL_QUEUE).", metavar="A,B", show_default="default"),
]
Shard = Annotated[
    str | None,
    typer.Option(
        help="Run the tasks that its queues have on this shard (TASKMILL_SHARD).", show_default="where they are"
    ),
]
Url = Annotated[
    str | None, typer.Option(help="A running server, as http://host:port or its endpoint. Without it: Redis itself.")
]
UrlOfCall = Annotated[
    str | None, typer.Option(help="A running server, as http://host:port or its endpoint, instead of FILE.")
]
TokenOfCall = Annotated[
    str | None, typer.Option(help=f"Bearer token for --url ({TOKEN}).", metavar="TOKEN", show_default=False)
]
Token = Annotated[
    str | None,
    typer.Option(
        help="Bearer token for --url: a user's, or the operator's.",
        envvar=[TOKEN, "TASKMILL_API_OPERATOR_TOKEN"],
        show_envvar=True,
        show_default=False,
    ),
]
TaskId = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="The task: its id, or as much of its beginning as no other has.", show_default=False
    ),
]
TaskIds = Annotated[
    list[str],
    typer.Argument(metavar="ID...", help="The tasks: their ids, or the beginnings of them.", show_default=False),
]
SomeTaskIds = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ID...]", help="The tasks: their ids, or the beginnings of them.", show_default=False),
]
Everything = Annotated[bool, flag("--all", "All tasks to which it can be done, where there is no --where.")]
Yes = Annotated[bool, flag("--yes", "Do not ask.")]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="Only tasks of which this is true; repeated for more. Keys: status, outcome, tool, queue, caller, client, "
        "since, until (a date, or how long ago: 30s, 5m, 2h, 7d), text (in their message or error).",
    ),
]
Delay = Annotated[
    float | None,
    typer.Option(
        help="Seconds before which the task does not start.",
        metavar="SECONDS",
        callback=lambda given: _checked_start(given, None),
    ),
]
NotBefore = Annotated[
    str | None,
    typer.Option(
        help="Time before which the task does not start: ISO 8601 with a zone, 2027-01-31T08:00:00Z.",
        metavar="TIME",
        callback=lambda given: _checked_start(None, given),
    ),
]
Json = Annotated[bool, flag("--json", "Print JSON, with the field names of the HTTP API.")]
Level = Annotated[
    LogLevel,
    typer.Option("--log-level", help="Lowest level that is logged.", envvar="TASKMILL_LOG_LEVEL", case_sensitive=False),
]
LevelOfCall = Annotated[
    LogLevel | None,
    typer.Option(
        "--log-level",
        help="Lowest level that is logged.",
        envvar="TASKMILL_LOG_LEVEL",
        case_sensitive=False,
        show_default="warning; info of the author's own loggers",
    ),
]
AuthorsLevel = Annotated[LogLevel | None, typer.Option("--authors-log-level", hidden=True)]
Form = Annotated[
    LogForm,
    typer.Option(
        "--log-form",
        help="How log lines look; auto = text in a terminal, JSON elsewhere.",
        envvar="TASKMILL_LOG_FORM",
        case_sensitive=False,
    ),
]
Source = Annotated[str | None, typer.Option("--source", hidden=True)]
ParentSocket = Annotated[int | None, typer.Option("--parent", hidden=True)]
