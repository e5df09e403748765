"""The beginning of `taskmill stdio`, before the libraries of the protocol are imported: a host waits for two answers.

A host probes with `server/discover`, or sends `initialize`, and shows the server as connected when it has the answer.
The answers of the last start are sent at once if the server would answer the same; see `answer_file.py`. Of a server
that is not the author's this cannot be known: it is asked behind the answer, and one that has changed is reported.
"""

import hashlib
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from taskmill.cli.stdio.answer_file import AnswerFile
from taskmill.cli.stdio.handshake import Handshake
from taskmill.cli.stdio.host_pipes import HostLines, ProtocolPipes, reserve_pipes
from taskmill.cli.stdio.state_folder import place_of_remote, state_folder

__all__ = ["HostConnection", "begin", "started"]

_FIRST_LINE_TIMEOUT = 0.05
"""Seconds that imports wait for the first line, which most hosts write at once: imports would slow the answer."""
_OPTIONS = ("--redis-url", "--log-level", "--task", "--repeat", "--upstream-header")


class HostConnection:
    """The pipes of the host, its lines, and what is known of its first requests."""

    def __init__(self, answers: AnswerFile | None) -> None:
        """Reserves the pipes and begins to read. `answers`: None = the loaded server answers everything."""
        self.pipes: ProtocolPipes = reserve_pipes()
        self.answers = answers
        self._has_answered = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._end)
        self.known = answers.read() if answers is not None else {}
        self.handshake = Handshake(self.known)
        self.lines = HostLines(self.pipes.input_descriptor, self._serve)
        if self.known:
            self.lines.first.wait(_FIRST_LINE_TIMEOUT)

    @contextmanager
    def forgetting_answers_at_failure(self) -> Iterator[None]:
        """In the block the server is loaded and served. If that fails, the next start answers nothing before it."""
        try:
            yield
        except BaseException:
            if self.answers is not None:
                self.answers.remove()
            raise

    def _end(self, number: int, _frame: object) -> None:
        """Until the server has its own handlers, a signal ends the process at once; that needs no traceback."""
        if self._has_answered:
            os._exit(0)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _serve(self, line: bytes) -> bool:
        """Answer a line if the answer is known; True if the server needs not see it."""
        answer, passes = self.handshake.receive(line)
        if answer is not None:
            # Before the host has it: a signal may follow at once.
            self._has_answered = True
            rest = memoryview(answer)
            try:
                while rest:
                    rest = rest[os.write(self.pipes.output_descriptor, rest) :]
            except OSError:
                self.handshake.take_back()
                return False
        return not passes


_begun: HostConnection | None = None


def begin(words: Sequence[str]) -> None:
    """Begin to serve the host, if these words of `taskmill stdio` are such that it will be served."""
    global _begun
    target = _target(words)
    if target is None:
        return
    location, _, name = target.rpartition(":") if ":" in target else (target, "", "")
    if not location.endswith(".py") or not os.path.isfile(location):
        _begin_remote(target, words)
        return
    home = os.environ.get("TASKMILL_HOME") or state_folder(location)
    _begun = HostConnection(AnswerFile(home, location, name) if home is not None else None)


def _begin_remote(target: str, words: Sequence[str]) -> None:
    """The same for a server that is no author's file, if it is one."""
    global _begun
    from taskmill.adapters.remote.target import environment_digest, is_remote  # a file needs none of it

    if not is_remote(target):
        return
    place = place_of_remote(target)
    home = os.environ.get("TASKMILL_HOME") or state_folder(place)
    # All words: they say which tools are tasks, too. A digest: a header among them may be a secret.
    name = hashlib.sha256("\0".join([*words, os.getcwd(), environment_digest()]).encode()).hexdigest()
    _begun = HostConnection(AnswerFile(home, place, name) if home is not None else None)


def started() -> HostConnection:
    """The connection that `begin` has made, else a new one."""
    return _begun or HostConnection(None)


def _target(words: Sequence[str]) -> str | None:
    """The server that the words name, None if they may mean anything else, an error or `--help` among it."""
    rest = list(words)
    targets = []
    while rest:
        word = rest.pop(0)
        option, has_value, value = word.partition("=")
        if option in _OPTIONS:
            if not has_value and not rest:
                return None
            value = value if has_value else rest.pop(0)
            if option == "--log-level" and value.lower() not in ("debug", "info", "warning", "error"):
                return None
        elif word.startswith("-"):
            return None
        else:
            targets.append(word)
    return targets[0] if len(targets) == 1 else None
