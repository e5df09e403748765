"""The `taskmill` program. It imports nothing slow before it must: a host waits for the first answer of `stdio`.

The commands with their options are in `commands.py`.
"""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; ends the process with the command's exit code."""
    if "--" in sys.argv:
        from taskmill.cli.words import with_command_joined

        sys.argv[1:] = with_command_joined(sys.argv[1:])
    if sys.argv[1:2] == ["stdio"]:
        from taskmill.cli.stdio import early_start

        early_start.begin(sys.argv[2:])
    from taskmill.cli.commands import run_command_line

    run_command_line()


if __name__ == "__main__":
    main()
