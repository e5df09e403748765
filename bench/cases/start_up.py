"""Processor time from a command line to its first use: a call of a one-second tool, a host's first answer, a list.

Each command has run before in the same directory, as for a person who uses it a second time. Nothing is configured:
ours starts its embedded Redis, a server and a worker for a call; FastMCP a server, which runs the tool itself.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.cases.case import Case, Values
from bench.contenders import FASTMCP, ROOT, TASKMILL, Contender
from bench.figures import Figure, Goal
from bench.plan import Plan
from bench.processes import Program, await_value

__all__ = ["START_UP"]

_PROGRAMS = ROOT / "bench" / "programs"
_LONGEST = 120.0
_PEERS = (FASTMCP.name,)
_PARAMS = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
_INITIALIZE = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": _PARAMS}
_TOOLS = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}


def _measure(contender: Contender, plan: Plan) -> Values:
    with tempfile.TemporaryDirectory(prefix="taskmill-bench-", ignore_cleanup_errors=True) as name:
        place = _Place(contender, Path(name))
        for _ in range(2):  # the first time is for the compiled modules and for what a command keeps
            values = {"start_up_call": place.cpu_of("call", place.file, "nap"), "start_up_first": place.first_answer()}
            if contender is TASKMILL:
                values["start_up_list"] = place.cpu_of("tasks", "list")
        return values


class _Place:
    """A directory with a server file, and the contender's command."""

    def __init__(self, contender: Contender, directory: Path) -> None:
        self._directory = directory
        self._contender = contender
        self.file = f"start_up_{contender.name}.py"
        (directory / self.file).write_text((_PROGRAMS / self.file).read_text())
        folder = contender.python.parent
        # FastMCP's own call starts its server by name.
        self._environment = {"PATH": f"{folder}:/usr/bin:/bin", "XDG_STATE_HOME": str(directory / "state")}
        self._environment |= {name: value for name, value in contender.environment.items() if "TASKMILL" not in name}
        self._command = folder / contender.name

    def cpu_of(self, *words: str) -> float:
        """Seconds of processor time of all processes that a command starts."""
        told = self._directory / "cpu"
        program = self._start([self._contender.python, _PROGRAMS / "cpu_of.py", told, self._command, *words])
        try:
            await_value(lambda: program.has_ended() or None, words[0], seconds=_LONGEST, every=0.05)
        finally:
            program.stop()
        return float(told.read_text())

    def first_answer(self) -> float:
        """Seconds of processor time until the answer to `initialize` over standard output; then the server is used."""
        serve = "stdio" if self._contender is TASKMILL else "run"
        program = self._start([self._command, serve, self.file], talks=True)
        try:
            program.ask(json.dumps(_INITIALIZE))
            seconds = program.cpu_seconds()
            # Used to its end, so that it can keep what it keeps for the next start.
            program.ask(json.dumps(_TOOLS))
            program.end_input(seconds=10)
        finally:
            program.stop()
        return seconds

    def _start(self, command: Sequence[str | Path], *, talks: bool = False) -> Program:
        return Program(command, environment=self._environment, output=self._directory / "log", talks=talks)


START_UP = Case(
    "start_up",
    (TASKMILL, FASTMCP),
    (
        Figure(
            "start_up_call",
            "`call` of a one-second tool, embedded Redis: processor time of all it starts",
            "s",
            more_is_better=False,
            peers=_PEERS,
            goal=Goal("≤ 2.5 s", lambda _: 2.5),
            digits=2,
        ),
        Figure(
            "start_up_first",
            "start over standard input and output to the first answer: processor time",
            "s",
            more_is_better=False,
            peers=_PEERS,
            goal=Goal("≤ 0.4 s", lambda _: 0.4),
            digits=2,
        ),
        Figure("start_up_list", "`tasks list`: processor time", "s", more_is_better=False, digits=2),
    ),
    _measure,
)
