"""The socket that a server listens on, and the error of an address that cannot be used."""

import errno
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from taskmill.engine.errors import OperatorError
from taskmill.store.setting_names import setting_choice

__all__ = ["listening"]

_BACKLOG = 2048
_TAKE_OVER_TIMEOUT = 60.0
"""Seconds that the server before this one has to close its port."""
_TAKE_OVER_POLL = 0.02


@contextmanager
def listening(host: str, port: int, *, waits: bool = False) -> Iterator[socket.socket]:
    """A listening socket; closed at the end. `waits`: the port may still be in use for a moment.

    Raises:
        OperatorError: the address cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise OperatorError(
            f"Cannot listen on {host}: {exc.strerror}. Choose another address with {setting_choice('host')}."
        ) from exc
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            deadline = time.monotonic() + (_TAKE_OVER_TIMEOUT if waits else 0)
            while not _listens(listener, address, may_fail=time.monotonic() < deadline):
                time.sleep(_TAKE_OVER_POLL)
        except OSError as exc:
            raise OperatorError(
                f"Cannot listen on {host} port {port}: {exc.strerror}. "
                f"Choose another one with {setting_choice('port')}; 0 takes any."
            ) from exc
        yield listener


def _listens(listener: socket.socket, address: Any, *, may_fail: bool) -> bool:
    """Bind and listen; False if the port is in use and that `may_fail`.

    Raises:
        OSError: it cannot.
    """
    try:
        if listener.getsockname()[1] == 0:
            listener.bind(address)
        # At once: two processes can bind the same port, and the error comes only when the second one listens.
        listener.listen(_BACKLOG)
    except OSError as exc:
        if may_fail and exc.errno == errno.EADDRINUSE:
            return False
        raise
    return True
