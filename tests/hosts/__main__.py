"""Runs real, unmodified MCP hosts against Taskmill with a scripted model, and prints a table of what came of it.

Each host of `installation.py` is installed in its exact version, started as its users start it, and asked to make a
long call, to answer a question, and to end a call by Ctrl-C, over HTTP and over stdio. Then pages in a browser use the
server directly. Nothing leaves this machine.
"host's limit": the host itself does not do what is asked, which its messages prove, and the server did right then.
Exit 0: all are right. 1: one is not. 77: a host could not be installed, the others are right.
"""

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

from tests.hosts.browser.browsers import BrowserPrograms, run_browser
from tests.hosts.installation import CannotInstall, install
from tests.hosts.launchers import LAUNCHERS
from tests.hosts.scenarios import SCENARIOS, Verdict
from tests.hosts.servers import SERVERS
from tests.hosts.table import TRANSPORTS, Row, Wanted, markdown_of, print_table, run_hosts

CANNOT_RUN = 77
BROWSER_SECONDS = 5
"""What a call of a page takes."""


def main() -> int:
    """Install, run, print the tables."""
    given = _options()
    programs, missing = _installed([] if given.browser else given.hosts or list(LAUNCHERS))
    wanted = [
        Wanted(host, transport, scenario)
        for host in programs
        for transport in given.transport or TRANSPORTS
        for scenario in given.scenario or SCENARIOS
    ]
    show = partial(print, flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        tables = []
        if wanted:
            running = run_hosts(programs, wanted, given.seconds, folder, on_row=show, server=SERVERS[given.server])
            tables.append(asyncio.run(running))
        has_chosen = given.hosts or given.transport or given.scenario or given.server != "taskmill"
        if given.browser or not has_chosen:
            tables.append(_browser_rows(folder / "browser", missing))
    for rows in tables:
        if given.markdown:
            print(markdown_of(rows), end="\n\n")
        else:
            print_table(rows)
    found = Counter(row.verdict for rows in tables for row in rows)
    counts = ", ".join(f"{found[verdict]} {verdict}" for verdict in Verdict)
    print(f"{counts}, {len(missing)} hosts could not be installed")
    return 1 if found[Verdict.WRONG] else CANNOT_RUN if missing else 0


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(prog="scripts/hosts", description=__doc__)
    options.add_argument(
        "hosts", nargs="*", metavar="HOST", help=f"of {', '.join(LAUNCHERS)}; all of them unless given"
    )
    options.add_argument("--transport", choices=TRANSPORTS, action="append", help="all unless given")
    options.add_argument(
        "--installed", action="append_const", dest="transport", const="installed",
        help="with the server from `taskmill install`; short for --transport installed",
    )  # fmt: skip
    options.add_argument("--browser", action="store_true", help="pages in a browser, and no hosts")
    options.add_argument("--scenario", choices=list(SCENARIOS), action="append", help="all unless given")
    options.add_argument("--seconds", type=int, default=70, help="what the long call of a host takes")
    options.add_argument("--server", choices=list(SERVERS), default="taskmill", help="who has made the hosts' server")
    options.add_argument("--keep", type=Path, help="keep what was sent and written in this folder")
    options.add_argument("--markdown", action="store_true", help="print the tables as a page has them")
    given = options.parse_args()
    if unknown := set(given.hosts) - set(LAUNCHERS):
        options.error(f"no such host: {', '.join(sorted(unknown))}; choose from {', '.join(LAUNCHERS)}")
    if "wrapped" in (given.transport or ()) and given.server != "foreign":
        options.error("only a server that stands behind Taskmill can be wrapped: --transport wrapped --server foreign")
    return given


def _browser_rows(folder: Path, missing: list[str]) -> list[Row]:
    try:
        rows = asyncio.run(run_browser(BrowserPrograms(), BROWSER_SECONDS, folder))
    except CannotInstall as exc:
        print(f"!!! scripts/hosts: NO BROWSER: {exc}", file=sys.stderr)
        missing.append("browser")
        return []
    for row in rows:
        print(row, flush=True)
    return rows


def _installed(hosts: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    programs, missing = {}, []
    for host in hosts:
        try:
            programs[host] = install(LAUNCHERS[host][0])
        except CannotInstall as exc:
            print(f"!!! scripts/hosts: NO {host.upper()}: {exc}", file=sys.stderr)
            missing.append(host)
    return programs, missing


if __name__ == "__main__":
    sys.exit(main())
