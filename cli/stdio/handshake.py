"""The first requests of a host, `server/discover` and `initialize`: which of them can be answered by earlier answers.

An answer is known by the whole request - all its parameters, and what came before it on the same connection - so that
nothing here needs to know what they mean. Whether earlier answers may be used is decided in `answer_file.py`.
"""

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["Handshake"]

_PROBE = "server/discover"
_INITIALIZE = "initialize"
_RESULT_MEMBERS = {_PROBE: "supportedVersions", _INITIALIZE: "protocolVersion"}
"""What a result of each method has, and no other result."""
_MEMBERS = frozenset({"jsonrpc", "id", "method", "params"})
_MAX_LINE = 64 * 1024


class Handshake:
    """The beginning of one connection: what the host has sent, and what was answered."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        """`known`: results by request, as `learned` has them."""
        self._known = known
        self._before: list[str] = []
        """Methods of the requests so far: at most a probe and `initialize`."""
        self._is_over = False
        """Whether the host has sent another request: what follows depends on the whole connection."""
        self._asks_server = False
        self._asked: dict[int | str, tuple[str, str]] = {}
        """Requests that the loaded server answers: method and key by id."""
        self._answered: tuple[int | str, Any] | None = None
        """Id and result of an `initialize` that was answered here and that the loaded server answers again."""
        self.learned: dict[str, Any] = {}
        """Results of the loaded server by request."""
        self.differs = False
        """Whether the loaded server has answered something else than was answered here."""

    def receive(self, line: bytes) -> tuple[bytes | None, bool]:
        """A line of the host: the answer, None = the loaded server has it; and whether the line goes on to the server.

        An answered `initialize` goes on: the loaded server must know the client. Its answer is dropped by `send`.
        """
        message = None if self._is_over else _message(line)
        if message is None or (method := message["method"]) not in (_PROBE, _INITIALIZE):
            self._is_over = self._is_over or message is None or "id" in message
            return None, True
        request_id = _id_of(message)
        # Some hosts begin to count their ids again after a probe: then two answers may have the same one.
        if (
            request_id is None
            or request_id in self._asked
            or self._before not in ([], [_PROBE])
            or method in self._before
        ):
            self._is_over = True
            self._asked.clear()
            return None, True
        key = json.dumps([self._before, method, message.get("params")], sort_keys=True)
        self._before.append(method)
        # One after the other: once the server has something to write, it writes all.
        if key not in self._known or self._asks_server:
            self._asked[request_id] = method, key
            self._asks_server = True
            return None, True
        result = self._known[key]
        if method == _INITIALIZE:
            self._answered = request_id, result
        answer = {"jsonrpc": "2.0", "id": request_id, "result": result}
        return json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode() + b"\n", method == _INITIALIZE

    def take_back(self) -> None:
        """The last answer could not be sent: the loaded server answers, and so notices why."""
        self._answered = None

    def send(self, text: str) -> bool:
        """A message of the loaded server: whether it goes to the host."""
        if not self._asked and self._answered is None:
            return True
        message = json.loads(text)
        request_id = _id_of(message)
        if "method" in message or request_id is None:
            return True
        if request_id in self._asked:
            method, key = self._asked.pop(request_id)
            result = message.get("result")
            if isinstance(result, dict) and _RESULT_MEMBERS[method] in result:
                self.learned[key] = result
            return True
        if self._answered is None or self._answered[0] != request_id:
            return True
        self.differs = message.get("result") != self._answered[1]
        self._answered = None
        return False


def _message(line: bytes) -> dict[str, Any] | None:
    """The request or notification of a line, None if it is none, or not of the plainest form."""
    if len(line) > _MAX_LINE:
        return None
    try:
        message = json.loads(line)
    except ValueError:
        return None
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0" or not message.keys() <= _MEMBERS:
        return None
    return message if isinstance(message.get("method"), str) else None


def _id_of(message: Mapping[str, Any]) -> int | str | None:
    value = message.get("id")
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None
