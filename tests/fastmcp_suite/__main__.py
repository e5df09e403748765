"""`scripts/fastmcp-suite`: runs, compares, prints."""

import argparse
import json
import sys
from pathlib import Path

from tests.fastmcp_suite.comparison import Comparison, compare, expected_differences
from tests.fastmcp_suite.run import ENGINES, run_suite
from tests.fastmcp_suite.source import CannotRun, environment, tests_of_fastmcp

CANNOT_RUN = 77


def main() -> int:
    options, chosen = _options()
    try:
        folder, python = tests_of_fastmcp(), environment()
    except CannotRun as reason:
        print(f"!!! scripts/fastmcp-suite: FASTMCP'S TESTS DID NOT RUN: {reason}", file=sys.stderr)
        return CANNOT_RUN
    engines = ENGINES if options.engine == "both" else (options.engine,)
    runs = {}
    for engine in engines:
        runs[engine] = run_suite(engine, folder, python, chosen or ["tests/tasks"], lanes=options.lanes)
        failed = {name: one.reason for name, one in runs[engine].items() if not one.passed}
        print(f"{engine}: {len(runs[engine])} tests, {len(failed)} failed")
        if options.engine != "both":
            print("\n".join(f"{name}\n    {why}" for name, why in sorted(failed.items())))
    if options.engine != "both":
        return int(any(not one.passed for one in runs[options.engine].values()))
    comparison = compare(runs["docket"], runs["taskmill"], expected_differences())
    print("\n".join(comparison.lines()))
    if options.report:
        options.report.write_text(json.dumps(_as_json(comparison), indent=2))
    return int(not comparison.is_as_expected)


def _as_json(comparison: Comparison) -> dict[str, object]:
    return {**vars(comparison), "both": len(comparison.both)}


def _options() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="scripts/fastmcp-suite",
        description="FastMCP's own tests of tasks, on Taskmill and on docket side by side.",
        epilog="Further arguments go to pytest.",
    )
    parser.add_argument("--engine", choices=[*ENGINES, "both"], default="both", help="one engine alone")
    parser.add_argument("--lanes", type=int, default=2, metavar="N", help="processes that run tests at a time (2)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the comparison as JSON")
    return parser.parse_known_args()


if __name__ == "__main__":
    sys.exit(main())
