"""The command line: which cases, how long, and where the results go. `./bench/run --help`."""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.calibration import Calibrations
from bench.cases.cancel import CANCEL
from bench.cases.case import Case
from bench.cases.cost import COST
from bench.cases.create import CREATE
from bench.cases.crowd import IDLE, STARVE
from bench.cases.depth import DEPTH
from bench.cases.detour import DETOUR
from bench.cases.drain import DRAIN
from bench.cases.enqueue import ENQUEUE
from bench.cases.followers import FOLLOWERS
from bench.cases.get import GET
from bench.cases.memory import MEMORY
from bench.cases.pair import PAIR
from bench.cases.poll import POLL
from bench.cases.progress import PROGRESS
from bench.cases.rescue import RESCUE
from bench.cases.result import RESULT
from bench.cases.start import START
from bench.cases.start_up import START_UP
from bench.contenders import ROOT, TASKMILL, Contender
from bench.figures import Result, against_goal
from bench.history import History
from bench.machine import facts
from bench.plan import Plan
from bench.processes import clean_up_on_signals
from bench.report import as_json, as_table, known_reasons, verdicts, write_markdown

CASES = (
    CREATE,
    GET,
    POLL,
    START,
    RESULT,
    ENQUEUE,
    DRAIN,
    PAIR,
    DEPTH,
    STARVE,
    CANCEL,
    PROGRESS,
    COST,
    MEMORY,
    IDLE,
    RESCUE,
    FOLLOWERS,
    START_UP,
    DETOUR,
)


_ABOUT = (
    "Measures Taskmill beside its peers on this machine. Exit status 1 where a goal is missed; 3 where none is, but "
    "the machine was disturbed, so that some were not judged."
)
HISTORY = ROOT / "bench" / "history.jsonl"


def main(words: Sequence[str] | None = None) -> None:
    """Measure and report."""
    args = _parser().parse_args(words)
    if args.markdown and (args.only or args.alone):
        _parser().error("--markdown writes the whole table: leave out --only and --alone")
    depth = 1_000_000 if args.long else 20_000 if args.quick else 100_000
    rounds, seconds = args.rounds or (1 if args.quick else 3), 1.0 if args.quick else 3.0
    plan = Plan(rounds=rounds, seconds=seconds, depth=depth, scale=args.scale)
    clean_up_on_signals()
    chosen = [case for case in CASES if not args.only or case.name in args.only]
    if args.alone:
        chosen = [replace(case, contenders=(TASKMILL,)) for case in chosen]
    _prepare(chosen)
    statuses = [_run(chosen, plan, args) for _ in range(args.runs)]
    sys.exit(next((status for status in (1, 3) if status in statuses), 0))


def _run(cases: Sequence[Case], plan: Plan, args: argparse.Namespace) -> int:
    """Measure once, report, and return the exit status of that run."""
    machine = facts()
    history = History.of(args.history, machine, plan)
    values, calibrations = _measured(cases, plan, Calibrations(best=history.best_pace()))
    results = _judged(cases, values, calibrations)
    print(as_table(results))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(as_json(results, machine, plan), indent=2) + "\n")
    if args.markdown:
        write_markdown(results, machine, plan)
    print(*verdicts(results, known_reasons()), sep="\n")
    history = history.with_run(results, calibrations.paces)
    print(f"\nThe course of each figure, over runs of this size on this machine ({args.history}):")
    print(*history.courses(results), *history.standings(results), sep="\n", flush=True)
    if any(result.is_met is False for result in results):
        return 1
    return 3 if any(result.disturbance and result.goal is not None for result in results) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("bench/run", description=_ABOUT)
    parser.add_argument("--quick", action="store_true", help="one short round, under ten minutes")
    parser.add_argument("--long", action="store_true", help="a million tasks in the deep queue")
    names = [case.name for case in CASES]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--alone", action="store_true", help="measure only Taskmill")
    parser.add_argument("--rounds", type=int, help="how often each is measured (3, quick: 1)")
    parser.add_argument(
        "--runs", type=int, default=1, help="how many whole runs, one after the other (1); 3 judge a goal"
    )
    parser.add_argument("--history", type=Path, default=HISTORY, metavar="FILE", help="the runs so far, a line each")
    parser.add_argument("--scale", type=float, default=1.0, help="multiply every count and duration")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--markdown", action="store_true", help="write the table into docs/performance.md")
    return parser


def _prepare(cases: Sequence[Case]) -> None:
    """Make the environments of the peers of these cases; a peer whose environment cannot be made is left out."""
    for setup in dict.fromkeys(contender.setup for case in cases for contender in case.contenders if contender.setup):
        subprocess.run(setup, cwd=ROOT, check=False)


def _measured(
    cases: Sequence[Case], plan: Plan, calibrations: Calibrations
) -> tuple[dict[tuple[str, str], list[float]], Calibrations]:
    """(figure, contender) -> one value a round. Contenders take turns, each round in another order."""
    values: dict[tuple[str, str], list[float]] = {}
    calibrations = calibrations.again()
    for case in cases:
        present = [contender for contender in case.contenders if contender.is_installed()]
        for number in range(plan.rounds):
            at = number % len(present)
            for contender in present[at:] + present[:at]:
                print(f"{case.name}: {contender.label} ({number + 1} of {plan.rounds})", file=sys.stderr, flush=True)
                for figure, value in _round(case, contender, plan).items():
                    values.setdefault((figure, contender.name), []).append(value)
        calibrations = calibrations.again()
    return values, calibrations


def _round(case: Case, contender: Contender, plan: Plan) -> Mapping[str, float]:
    """One measurement; nothing of a peer that cannot do it here, such as one that wants a newer Redis."""
    try:
        return case.measure(contender, plan)
    except RuntimeError as exc:
        if contender is TASKMILL:
            raise
        print(f"{case.name}: {contender.label} is left out: {str(exc).splitlines()[-1]}", file=sys.stderr)
        return {}


def _judged(
    cases: Sequence[Case], values: dict[tuple[str, str], list[float]], calibrations: Calibrations
) -> list[Result]:
    bare = [
        Result(
            figure,
            {name: rounds for (key, name), rounds in values.items() if key == figure.key},
            None,
            disturbance=calibrations.disturbance(number),
        )
        for number, case in enumerate(cases)
        for figure in case.figures
    ]
    medians = {(one.figure.key, name): median for one in bare for name, median in one.medians.items()}
    return [against_goal(one, medians) for one in bare]


if __name__ == "__main__":
    main()
