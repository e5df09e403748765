"""`scripts/foreign-servers`: installs, calls, compares, prints.

Exit 0: all are equal. 1: one is not. 77: a server could not be installed, the others are right.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.foreign_servers.comparison import WAYS, Transport, compare
from tests.foreign_servers.installation import CannotInstall
from tests.foreign_servers.long_call import make_long_call
from tests.foreign_servers.servers import SERVERS
from tests.support.official_clients import Official

CANNOT_RUN = 77


def main() -> int:
    """Run what is wanted, print what differs."""
    given = _options()
    if given.minutes:
        return _long_call(given.minutes)
    equal, differences, missing = 0, 0, 0
    for name in given.servers or SERVERS:
        server = SERVERS[name]
        try:
            server.words()
        except CannotInstall as exc:
            print(f"!!! scripts/foreign-servers: NO {name.upper()}: {exc}", file=sys.stderr)
            missing += 1
            continue
        transports: tuple[Transport, ...] = ("pipes", "http")
        for transport in transports:
            with tempfile.TemporaryDirectory() as folder:
                report = asyncio.run(compare(name, transport, Path(folder), ways=tuple(given.way or WAYS)))
            print(f"{name} over {transport}: {report.equal} equal, {len(report.differences)} different", flush=True)
            for difference in report.differences:
                print(difference, flush=True)
            equal, differences = equal + report.equal, differences + len(report.differences)
    print(f"{equal} answers are equal, {differences} are not, {missing} servers could not be installed")
    return 1 if differences else CANNOT_RUN if missing else 0


def _long_call(minutes: float) -> int:
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = make_long_call(Path(folder), Official.installed(), int(minutes * 60))
        except CannotInstall as exc:
            print(f"!!! scripts/foreign-servers: NO EVERYTHING: {exc}", file=sys.stderr)
            return CANNOT_RUN
    print(found)
    return 1 if found.fault else 0


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        prog="scripts/foreign-servers",
        description="Real servers of other people, each tool called directly and through Taskmill in each way.",
    )
    options.add_argument("servers", nargs="*", metavar="SERVER", help=f"of {', '.join(SERVERS)}; all unless given")
    options.add_argument("--way", choices=WAYS, action="append", help="all unless given")
    options.add_argument(
        "--minutes",
        type=float,
        help="instead: one call that takes so long, by a host that gives each call up after 60 seconds",
    )
    given = options.parse_args()
    if unknown := set(given.servers) - set(SERVERS):
        options.error(f"no such server: {', '.join(sorted(unknown))}; choose from {', '.join(SERVERS)}")
    return given


if __name__ == "__main__":
    sys.exit(main())
