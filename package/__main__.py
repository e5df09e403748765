"""`python -m taskmill`: the command line, for where the command itself is not on the path."""

from taskmill.cli.main import main

if __name__ == "__main__":
    main()
