"""The shared lock of one user of the embedded Redis, which keeps the server up, and looks at the locks of others.

No process is started here and no server asked anything.
"""

import fcntl
import os
import threading
import weakref
from pathlib import Path

from taskmill.store.embedded.supervisor import SUPERVISOR_LOCK, USERS_LOCK, is_same_file, take_lock

__all__ = ["UserLock", "is_supervised"]

# Kept by the process that opens a lock until it is closed or has an owner, and by a fork: a child that copied one in
# between would hold that lock for as long as it lives, and nothing would show it.
_no_fork = threading.Lock()


class UserLock:
    """One user's place among the users of a data directory; given up by `release`, or by the process's death."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / USERS_LOCK
        self._descriptor: int | None = None
        _locks.add(self)

    @property
    def is_held(self) -> bool:
        """Whether this user counts, as far as it knows."""
        return self._descriptor is not None

    @property
    def is_stale(self) -> bool:
        """Whether the directory was wiped, so that the lock counts no more."""
        descriptor = self._descriptor
        return descriptor is not None and not is_same_file(self._path, descriptor)

    def take(self) -> bool:
        """Try to become a user; fails only while the server of earlier users is being ended."""
        with _no_fork:
            self._descriptor = take_lock(self._path, fcntl.LOCK_SH)
            return self._descriptor is not None

    def renew(self) -> None:
        """Take a stale lock again, on the file that is there now; a lock that was released stays released."""
        with _no_fork:
            fresh = take_lock(self._path, fcntl.LOCK_SH) if self._descriptor is not None else None
            if self._descriptor is not None and fresh is not None:
                os.close(self._descriptor)
                self._descriptor = fresh

    def release(self) -> None:
        """Stop being a user; harmless when it is none."""
        with _no_fork:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)

    def has_no_users(self) -> bool:
        """Whether there is no user at all, be it that the supervisor has noticed or that it has yet to."""
        return _is_free(self._path, fcntl.LOCK_EX) or not _is_free(self._path, fcntl.LOCK_SH)


def is_supervised(directory: Path) -> bool:
    """Whether a supervisor looks after the server of this directory."""
    return not _is_free(directory / SUPERVISOR_LOCK, fcntl.LOCK_SH)


def _is_free(path: Path, how: int) -> bool:
    """Whether the lock could be had that way just now; one in a removed directory is free."""
    try:
        with _no_fork:
            descriptor = take_lock(path, how)
            if descriptor is not None:
                os.close(descriptor)
    except FileNotFoundError:
        return True
    return descriptor is not None


def _release_in_child() -> None:
    """A forked child is no user, or it would keep the server up after its parent; it may start() for itself."""
    _no_fork.release()
    for copied in list(_locks):
        copied.release()


_locks: weakref.WeakSet[UserLock] = weakref.WeakSet()
os.register_at_fork(before=_no_fork.acquire, after_in_parent=_no_fork.release, after_in_child=_release_in_child)
