"""The commands that have to do with hosts, as the command line has them: `windlass stdio` and `windlass install`."""

from windlass.cli import options
from windlass.cli.logs import LogLevel, configure

__all__ = ["stdio"]


def stdio(file: options.File, redis_url: options.RedisUrl = None, log_level: options.Level = LogLevel.INFO) -> None:
    """Serve FILE to a desktop host over standard input and output. Tasks go on when the host ends.

    Hosts start it; `windlass install` tells them how. Everything that is logged or printed goes to standard error.
    """
    from windlass.cli.pipes import take_pipes

    pipes = take_pipes()
    configure(log_level)
    from windlass.cli.stdio import stdio as serve

    serve(file, pipes, redis_url, log_level)
