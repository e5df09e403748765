"""`taskmill install`: the command with its options."""

from typing import Annotated

import typer

from taskmill.cli import options
from taskmill.cli.install.hosts import HostName
from taskmill.cli.logs import LogLevel, configure

__all__ = ["install"]


def install(
    host: Annotated[HostName, typer.Argument(metavar="HOST", help=f"One of: {', '.join(HostName)}.")],
    file: options.OptionalFile = None,
    name: Annotated[str | None, typer.Option(help="What the host calls the server.")] = None,
    env: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A variable for the server.")] = None,
    remove: Annotated[str | None, typer.Option(metavar="NAME", help="Remove this server.")] = None,
    wrap: Annotated[
        str | None, typer.Option(metavar="NAME", help="Put this server, which the host has, behind Taskmill.")
    ] = None,
    unwrap: Annotated[str | None, typer.Option(metavar="NAME", help="Give back what --wrap has changed.")] = None,
    user: Annotated[bool, options.flag("--user", "For all projects, not for this folder only.")] = False,
    dry_run: Annotated[bool, options.flag("--dry-run", "Show the change and do not make it.")] = False,
    yes: Annotated[bool, options.flag("--yes", "Do not ask.")] = False,
) -> None:
    """Configure a desktop host to start FILE's server: show the change of its configuration file, and make it.

    Nothing else in the host's file changes, and a copy of the old file is kept beside it.
    """
    configure(LogLevel.WARNING)
    from taskmill.cli.install.command import InstallRequest, install_server

    flags = {"for_user": user, "dry_run": dry_run, "yes": yes}
    install_server(InstallRequest(host, file, name, tuple(env or ()), remove, **flags, wrap=wrap, unwrap=unwrap))
