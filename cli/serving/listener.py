"""The socket that a server listens on, and the error of an address that cannot be used."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from taskmill.engine.errors import OperatorError

__all__ = ["listening"]

_BACKLOG = 2048


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket; closed at the end.

    Raises:
        OperatorError: the address cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise OperatorError(f"Cannot listen on {host}: {exc.strerror}.") from exc
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            # At once: two processes can bind the same port, and the error comes only when the second one listens.
            listener.listen(_BACKLOG)
        except OSError as exc:
            raise OperatorError(
                f"Cannot listen on {host} port {port}: {exc.strerror}. Choose another one with --port; 0 takes any."
            ) from exc
        yield listener
