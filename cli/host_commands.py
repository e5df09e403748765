"""The commands that have to do with hosts, as the command line has them: `taskmill stdio` and `taskmill install`."""

from typing import Annotated

import typer

from taskmill.cli import options
from taskmill.cli.install.hosts import HostName
from taskmill.cli.logs import LogLevel, configure

__all__ = ["install", "stdio"]


def stdio(file: options.File, redis_url: options.RedisUrl = None, log_level: options.Level = LogLevel.INFO) -> None:
    """Serve FILE to a desktop host over standard input and output. Tasks go on when the host ends.

    Hosts start it; `taskmill install` tells them how. Everything that is logged or printed goes to standard error.
    """
    from taskmill.cli.stdio.pipes import take_pipes

    pipes = take_pipes()
    configure(log_level)
    from taskmill.cli.stdio.command import stdio as serve

    serve(file, pipes, redis_url, log_level)


def install(
    host: Annotated[HostName, typer.Argument(metavar="HOST", help=f"One of: {', '.join(HostName)}.")],
    file: options.OptionalFile = None,
    name: Annotated[str | None, typer.Option(help="What the host calls the server.")] = None,
    env: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A variable for the server.")] = None,
    remove: Annotated[str | None, typer.Option(metavar="NAME", help="Take this server out again.")] = None,
    user: Annotated[bool, typer.Option("--user", help="For all projects, not for this folder only.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the change and do not make it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Have a desktop host start FILE's server: shows the change of its configuration, and makes it.

    Nothing else in the host's file changes, and a copy of it is kept beside it.
    """
    configure(LogLevel.WARNING)
    from taskmill.cli.install.command import InstallRequest
    from taskmill.cli.install.command import install as change

    change(InstallRequest(host, file, name, tuple(env or ()), remove, user, dry_run, yes))
