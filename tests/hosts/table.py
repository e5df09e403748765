"""All runs of the chosen hosts, and the table of what came of them."""

import asyncio
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.hosts.installation import PACKAGES
from tests.hosts.launchers import LAUNCHERS
from tests.hosts.run import Transport, served
from tests.hosts.scenarios import SCENARIOS, play

__all__ = ["TRANSPORTS", "Row", "Wanted", "print_table", "run_hosts"]

TRANSPORTS: Sequence[Transport] = ("http", "stdio")
NOT_THERE = {("openai-agents", "interrupt"), ("inspector", "interrupt"), ("inspector-2026", "interrupt")}
"""Libraries and one-shot commands: no one presses Ctrl-C in them."""


@dataclass(frozen=True)
class Wanted:
    """One run to make."""

    host: str
    transport: Transport
    scenario: str

    @property
    def exists(self) -> bool:
        """Whether the host can be asked to do that."""
        return (self.host, self.scenario) not in NOT_THERE


@dataclass(frozen=True, order=True)
class Row:
    """What came of one run."""

    host: str
    version: str
    client: str
    """The name by which the host calls itself."""
    transport: str
    revision: str
    scenario: str
    is_right: bool
    words: str

    def __str__(self) -> str:
        """The row as one line."""
        return "  ".join(self._cells)

    @property
    def _cells(self) -> tuple[str, ...]:
        result = f"{'right' if self.is_right else 'WRONG'}: {self.words}"
        return (self.host, self.version, self.client, self.transport, self.revision, self.scenario, result)


async def run_hosts(
    programs: Mapping[str, list[str]],
    wanted: Sequence[Wanted],
    seconds: int,
    folder: Path,
    *,
    on_row: Callable[[Row], object],
) -> list[Row]:
    """Make the runs and keep what was sent and written in `folder`. `programs`: how each installed host is started.

    Hosts run side by side, the runs of one package one after the other, because they share its settings.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    by_package = defaultdict(list)
    for run in wanted:
        if run.exists and run.host in programs:
            by_package[LAUNCHERS[run.host][0]].append(run)
    rows: list[Row] = []
    async with served(folder) as server:

        async def run_each(runs: list[Wanted]) -> None:
            for run in runs:
                base = server if run.transport == "http" else None
                rows.append(await _run_one(run, programs[run.host], folder, base, seconds))
                on_row(rows[-1])

        await asyncio.gather(*(run_each(runs) for runs in by_package.values()))
    return sorted(rows)


async def _run_one(wanted: Wanted, program: list[str], folder: Path, server: str | None, seconds: int) -> Row:
    name = f"{wanted.host}-{wanted.transport}-{wanted.scenario.replace(' ', '-')}"
    run, judgement = await play(SCENARIOS[wanted.scenario], wanted.host, program, folder / name, server, seconds)
    version = PACKAGES[LAUNCHERS[wanted.host][0]].version
    client, revision = run.client.get("name", "?"), run.revision or "?"
    is_right, words = judgement.is_right, judgement.words
    return Row(wanted.host, version, client, run.transport, revision, wanted.scenario, is_right, words)


def print_table(rows: Sequence[Row]) -> None:
    """Print the rows for a person; as wide as it takes where no person reads."""
    table = Table("host", "version", "calls itself", "transport", "revision", "scenario", "result")
    for row in rows:
        table.add_row(*row._cells)
    Console(width=180 if not sys.stdout.isatty() else None).print(table)
