"""The private names of redis-py that the store uses, all of them. Each function says what would let it go.

A connection here is redis-py's asynchronous one, connected.
"""

from collections.abc import Callable
from typing import Any

__all__ = ["abandon", "has_ended", "parse_error_of", "transport_of", "write_now"]


def write_now(connection: Any, data: bytes) -> None:
    """Write without waiting. redis-py's own way waits until the socket takes more, and so needs a task for each caller.

    It can go when redis-py can send without waiting.

    Raises:
        OSError: the connection is broken.
        RuntimeError: uvloop's, for a transport that was closed just now.
    """
    connection._writer.write(data)


def abandon(connection: Any) -> None:
    """Close without waiting. It can go when `disconnect(nowait=True)` is no coroutine."""
    connection._close()


def transport_of(connection: Any) -> Any:
    """The transport, so that replies are taken the moment they arrive. It can go when redis-py reads by callback."""
    return connection._writer.transport


def parse_error_of(connection: Any) -> Callable[[str], Exception]:
    """What makes redis-py's exceptions of error replies. It can go when that function is public."""
    parse: Callable[[str], Exception] = connection._parser.parse_error
    translated: Callable[[Exception], Exception] | None = getattr(connection, "translated", None)
    return parse if translated is None else lambda text: translated(parse(text))


def has_ended(connection: Any) -> bool:
    """Whether the other side has closed the connection before now. It can go together with `transport_of`."""
    return bool(connection._reader.at_eof())
