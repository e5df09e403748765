"""A call that takes longer than the host lets it: `taskmill stdio -- COMMAND`, and a host that follows the hand-off.

The host is the official TypeScript SDK with a hard limit for each call; its model reads the words and calls what they
name. The slow tool is that of the reference server "everything".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.foreign_servers.servers import SERVERS
from tests.support.command_line import CommandLine
from tests.support.official_clients import Json, Official
from tests.support.results import text_of

__all__ = ["LongCall", "make_long_call"]

_TOOL = "trigger-long-running-operation"
_STEPS = 6


@dataclass(frozen=True)
class LongCall:
    """What came of it."""

    seconds: int
    """What the tool takes."""
    limit: float
    """Seconds after which the host gives a call up."""
    answers: list[Json]
    """Of the call and of each that followed: `tool`, `seconds`, and the result."""

    @property
    def fault(self) -> str:
        """What is wrong, empty = nothing."""
        *before, last = self.answers
        tools = [answer["tool"] for answer in self.answers]
        if [name for name in tools if name != "task_wait"] != [_TOOL] or tools[0] != _TOOL:
            return f"it called {tools}"
        if failed := [answer for answer in self.answers if answer.get("isError")]:
            return f"a call failed: {failed[0]}"
        longest = max(answer["seconds"] for answer in self.answers)
        if longest >= self.limit:
            return f"an answer took {longest:.1f} s, and the host gives up after {self.limit:g} s"
        wanted = f"Long running operation completed. Duration: {self.seconds} seconds, Steps: {_STEPS}."
        if text_of(last) != wanted:
            return f"the last answer is {text_of(last)!r}, not {wanted!r}"
        return "" if before else "the tool was too short to show anything"

    def __str__(self) -> str:
        """In a sentence."""
        taken = ", ".join(f"{answer['tool']} {answer['seconds']:.1f} s" for answer in self.answers)
        total = sum(answer["seconds"] for answer in self.answers)
        return (
            f"a tool of {self.seconds} s, a host that gives up after {self.limit:g} s: "
            f"{self.fault or f'its result after {total:.0f} s, in {len(self.answers)} calls'} ({taken})"
        )


def make_long_call(
    folder: Path, official: Official, seconds: int, *, limit: float = 60.0, settings: Mapping[str, str] | None = None
) -> LongCall:
    """Call the tool over standard input and output, and follow it to its end.

    Raises:
        CannotInstall: the server cannot be had.
        AssertionError: the host ended without a result.
    """
    words = SERVERS["everything"].words()
    with CommandLine(folder, dict(settings or {})) as cli:
        command = cli.command("stdio", "--", *words)
        arguments = {"duration": seconds, "steps": _STEPS}
        with official.model_over_pipes(command, cli.environment, _TOOL, arguments, limit) as model:
            _tools, *answers = model.finish()
    return LongCall(seconds, limit, answers)
