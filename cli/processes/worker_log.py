"""The log file of workers that outlive the command that started them. What they write is not known here."""

from pathlib import Path

from taskmill.engine.errors import SettingsError

__all__ = ["make_data_directory", "worker_log_in"]

_ROTATE_AT = 1024 * 1024
"""Bytes."""


def worker_log_in(home: Path) -> Path:
    """The path of the log in a data directory, which is made if need be. A long log is renamed first; one is kept.

    Raises:
        SettingsError: the directory cannot be made.
    """
    make_data_directory(home)
    path = (home / "worker.log").absolute()
    if path.exists() and path.stat().st_size > _ROTATE_AT:
        path.replace(path.with_suffix(".log.1"))
    return path


def make_data_directory(home: Path) -> None:
    """Make it for this user alone, unless it is there.

    Raises:
        SettingsError: it cannot be made.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise SettingsError(f"{home} cannot hold the worker's log: {exc.strerror}.") from exc
