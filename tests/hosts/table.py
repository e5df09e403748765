"""All runs of the chosen hosts, and the table of what came of them."""

import asyncio
import itertools
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.hosts.installation import PACKAGES
from tests.hosts.installed_server import ADDED_ENTRIES
from tests.hosts.launchers import INSTALL_NAMES, LAUNCHERS
from tests.hosts.run import Served, Transport, served
from tests.hosts.scenarios import SCENARIOS, Verdict, play
from tests.hosts.servers import SERVERS, HostServer

__all__ = ["TRANSPORTS", "Row", "Wanted", "markdown_of", "print_table", "run_hosts"]

COLUMNS = ("host", "version", "calls itself", "transport", "dialect", "scenario", "result")

TRANSPORTS: Sequence[Transport] = ("http", "stdio", "installed", "wrapped")
NOT_THERE = {("openai-agents", "interrupt"), ("inspector", "interrupt"), ("inspector-2026", "interrupt")}
"""Libraries and one-shot commands: no one presses Ctrl-C in them."""


@dataclass(frozen=True)
class Wanted:
    """One run to make."""

    host: str
    transport: Transport
    scenario: str

    def exists(self, server: HostServer) -> bool:
        """Whether the host can be asked to do that."""
        able = {"installed": INSTALL_NAMES, "wrapped": ADDED_ENTRIES if server.is_foreign else {}}
        if self.transport in able and (self.host not in able[self.transport] or self.scenario != "long call"):
            return False
        return (self.host, self.scenario) not in NOT_THERE


@dataclass(frozen=True, order=True)
class Row:
    """What came of one run."""

    host: str
    version: str
    transport: str
    scenario: str
    client: str
    """The name by which the host calls itself."""
    dialect: str
    verdict: Verdict
    words: str

    @property
    def is_wrong(self) -> bool:
        """Whether the server, or the lab, has done something wrong."""
        return self.verdict is Verdict.WRONG

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as a table shows it; its columns are `COLUMNS`."""
        result = f"{self.verdict}: {self.words}"
        return (self.host, self.version, self.client, self.transport, self.dialect, self.scenario, result)

    def __str__(self) -> str:
        """The row as one line."""
        return "  ".join(self.cells)


async def run_hosts(
    programs: Mapping[str, list[str]],
    wanted: Sequence[Wanted],
    seconds: int,
    folder: Path,
    *,
    on_row: Callable[[Row], object],
    server: HostServer = SERVERS["taskmill"],
) -> list[Row]:
    """Make the runs and keep what was sent and written in `folder`.

    `programs`: how each installed host is started. `server`: what they use.

    Hosts run side by side, the runs of one package one after the other, because they share its settings.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    by_package = defaultdict(list)
    for run in wanted:
        if run.exists(server) and run.host in programs:
            by_package[LAUNCHERS[run.host][0]].append(run)
    rows: list[Row] = []
    is_served = any(run.transport == "http" for runs in by_package.values() for run in runs)
    async with served(folder, server) if is_served else nullcontext(Served(server, "")) as given:

        async def run_each(runs: list[Wanted]) -> None:
            for run in runs:
                rows.append(await _run_one(run, programs[run.host], folder, given, seconds))
                on_row(rows[-1])

        await asyncio.gather(*(run_each(runs) for runs in by_package.values()))
    return sorted(rows)


async def _run_one(wanted: Wanted, program: list[str], folder: Path, server: Served, seconds: int) -> Row:
    name = f"{wanted.host}-{wanted.transport}-{wanted.scenario.replace(' ', '-')}"
    scenario, host = SCENARIOS[wanted.scenario], wanted.host
    run, judgement = await play(scenario, host, program, folder / name, wanted.transport, server, seconds)
    version = PACKAGES[LAUNCHERS[wanted.host][0]].version
    client = run.client.get("name", "?")
    verdict, words = judgement.verdict, judgement.words
    return Row(wanted.host, version, run.transport, wanted.scenario, client, run.dialect, verdict, words)


def print_table(rows: Sequence[Row]) -> None:
    """Print the rows for a person; as wide as it takes where no person reads."""
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*row.cells)
    Console(width=180 if not sys.stdout.isatty() else None).print(table)


def _order(row: Row) -> int:
    """Scenarios as `SCENARIOS` has them, others first."""
    return [*SCENARIOS].index(row.scenario) if row.scenario in SCENARIOS else -1


def markdown_of(rows: Sequence[Row]) -> str:
    """The rows as the table of a page: one line for a host and a transport, one column for a scenario."""
    scenarios = list(dict.fromkeys(row.scenario for row in sorted(rows, key=_order)))
    header = [*COLUMNS[:5], *scenarios]
    lines = [header, ["---"] * len(header)]
    for _, group in itertools.groupby(sorted(rows), lambda row: (row.host, row.version, row.transport)):
        of_host = list(group)
        first = of_host[0]
        dialects = " or ".join(sorted({row.dialect for row in of_host}))
        results = {row.scenario: f"{row.verdict}: {row.words}" for row in of_host}
        cells = (first.host, first.version, f"`{first.client}`", first.transport, dialects)
        lines.append([*cells, *(results.get(name, "") for name in scenarios)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
