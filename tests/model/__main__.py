"""Searches further than the suite, and shows which fault is seen by whom: scripts/model --help."""

import argparse
import logging
import tempfile
import time
from pathlib import Path

import structlog

from tests.model.failovers import Failovers, Limits
from tests.model.mutants import MUTANTS
from tests.model.protocol import Bounds, Protocol
from tests.model.search import search
from tests.model.verdicts import machine_verdict
from tests.support.redis_server import PrivateRedis


def main() -> int:
    """0 = nothing is broken; 1 = the shortest way to break something is printed."""
    parser = argparse.ArgumentParser(prog="scripts/model", description=__doc__)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--claims", type=int, default=8, help="how often the task may be claimed: fences go this high")
    parser.add_argument("--crashes", type=int, default=4, help="how many of its workers may die")
    parser.add_argument("--failovers", type=int, default=3, help="how often Redis may lose its last writes")
    parser.add_argument("--faults", action="store_true", help="put each fault in, and print a table of who sees it")
    options = parser.parse_args()
    if options.faults:
        return show_faults()
    bounds, limits = Bounds(options.workers, options.claims, options.crashes), Limits(failovers=options.failovers)
    broken = False
    for what, model in ("lease and fence", Protocol(bounds)), ("failovers", Failovers(limits)):
        began, found = time.monotonic(), search(model)
        print(f"{what}: {found.states:,} states, {found.steps:,} steps, {time.monotonic() - began:.0f} s")
        if found.violation:
            print("\n".join([*found.history, found.violation]))
        broken = broken or bool(found.violation)
    return broken


def show_faults() -> int:
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    print("| fault | the search says | the state machine |\n|---|---|---|")
    with PrivateRedis() as server:
        for mutant in MUTANTS:
            found = mutant.searched() if mutant.in_model else None
            said = found.violation or f"harmless: {mutant.harmless}" if found else "-"
            with tempfile.TemporaryDirectory() as folder:
                verdict = machine_verdict(mutant, server.url, Path(folder))
            print(f"| {mutant.name} | {said} | {'sees it' if verdict else 'sees nothing'} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
