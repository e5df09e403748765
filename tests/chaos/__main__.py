"""Kills, cuts, pauses and fills while clients of every class work, then holds the promises against what is left.

scripts/chaos --tasks 100000
"""

import argparse
import asyncio
import random
import tempfile
from pathlib import Path

from tests.chaos.cluster import ClusterDeployment, ClusterFaults
from tests.chaos.deployment import Deployment
from tests.chaos.faults import Faults
from tests.chaos.run import Plan, run


def main() -> int:
    """0: every promise was kept; 1: the report says which was not, and the logs stay where it says."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=None, help="of the order of faults; random unless given")
    parser.add_argument(
        "--minutes", type=float, default=None, help="over which tasks are created; default: 30 a second"
    )
    parser.add_argument("--outage", type=float, default=30, help="seconds that Redis is away, each time")
    parser.add_argument("--lease", type=float, default=3)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--clients", type=int, default=60, help="at a time")
    parser.add_argument("--cut-rate", type=float, default=0.001, help="the part of Redis commands that is cut off")
    parser.add_argument("--cluster", action="store_true", help="on a Redis cluster; connections are not cut")
    parser.add_argument("--folder", type=Path, default=None, help="for logs and journals")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    plan = Plan(
        tasks=options.tasks,
        seed=seed,
        minutes=options.minutes or options.tasks / 30 / 60,
        folder=folder,
        workers=options.workers,
        lanes=options.clients,
        lease=options.lease,
        outage=options.outage,
        cut_rate=options.cut_rate,
    )
    print(f"seed {seed}, logs and journals in {folder}", flush=True)
    try:
        on = (ClusterDeployment, ClusterFaults) if options.cluster else (Deployment, Faults)
        report = asyncio.run(run(plan, *on))
    except TimeoutError:
        print("nothing went on for minutes: see the logs")
        return 1
    print("\n".join(report.lines()))
    return bool(report.problems)


if __name__ == "__main__":
    raise SystemExit(main())
