"""The results as a table for a terminal, as Markdown for docs/performance.md, and as JSON. No measuring here."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.contenders import ARQ, ARQ_TUNED, FASTMCP, FASTMCP_MEMORY, QUEUES, ROOT, SDK, TASKMILL, TASKMILL_FASTMCP
from bench.figures import Result
from bench.plan import Plan
from bench.plot import as_svg

__all__ = ["as_json", "as_table", "known_reasons", "verdicts", "write_markdown"]

PAGE = ROOT / "docs" / "performance.md"
PLOTS = ROOT / "docs" / "performance"
_PLOTTED = ("drain_10", "drain_100", "create_rate", "get_rate", "start_p50", "enqueue_rate")
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
_COLUMNS = (TASKMILL, TASKMILL_FASTMCP, FASTMCP, FASTMCP_MEMORY, *QUEUES, ARQ, ARQ_TUNED, SDK)
_MET = {True: "yes", False: "no", None: ""}
_NUMBERS = len(_COLUMNS) + 1


def as_table(results: Sequence[Result]) -> str:
    """Aligned columns, one line a figure."""
    rows = [_heading(), *map(_row, results)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if 1 <= at <= _NUMBERS else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def known_reasons(page: Path = PAGE) -> dict[str, str]:
    """Figure -> why its goal is missed, as the page tells it: `- **figure**: reason`, lines that are set in go on."""
    told = re.findall(r"^- \*\*(\w+)\*\*: (.+(?:\n  .+)*)", page.read_text(), re.MULTILINE)
    return {figure: " ".join(reason.split()) for figure, reason in told}


def verdicts(results: Sequence[Result], reasons: Mapping[str, str]) -> Iterator[str]:
    """One line for each goal that was missed or cannot be judged, and the sums."""
    judged = [result for result in results if result.is_met is not None]
    for result in results:
        figure, goal = result.figure, result.figure.goal
        if result.is_met is False:
            reason = f"known: {reasons[figure.key]}" if figure.key in reasons else "not known to be missed"
            yield f"MISSED {figure.key}: {figure.title}: {_measured(result)} ({reason})"
        elif result.is_let_off:
            yield f"LET OFF {figure.key}: {figure.title}: {_measured(result)} ({result.otherwise})"
        elif goal is not None and result.disturbance:
            yield f"NOT JUDGED {figure.key}: {figure.title}: {result.disturbance}"
        elif result.is_met is None and goal is not None:
            yield f"NOT JUDGED {figure.key}: {figure.title}: nobody to compare with was measured"
        elif result.is_met and figure.key in reasons:
            yield f"MET {figure.key}: {figure.title}: this time, although known to be missed"
    let_off = sum(result.is_let_off for result in judged)
    met = f"{sum(result.is_met is True for result in judged)} of {len(judged)} goals are met"
    yield f"{met}, {let_off} of them let off" if let_off else met


def _measured(result: Result) -> str:
    """The goal and what came instead."""
    figure, ours, limit = result.figure, result.medians[TASKMILL.name], result.goal
    words = figure.goal.words if figure.goal else ""
    return f"goal {words}: {limit:,.{figure.digits}f}, measured {ours:,.{figure.digits}f} {figure.unit}"


def as_json(results: Sequence[Result], machine: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """Everything: the machine, the size of the run, every round of every figure."""
    return {
        "machine": machine,
        "plan": {"rounds": plan.rounds, "seconds": plan.seconds, "scale": plan.scale},
        "contenders": {contender.name: contender.label for contender in _COLUMNS},
        "figures": [
            {
                "figure": result.figure.key,
                "title": result.figure.title,
                "unit": result.figure.unit,
                "more_is_better": result.figure.more_is_better,
                "rounds": dict(result.rounds),
                "medians": result.medians,
                "ratio": result.ratio,
                "goal": result.goal,
                "goal_in_words": result.figure.goal.words if result.figure.goal else None,
                "met": result.is_met,
                "let_off": result.otherwise if result.is_let_off else None,
                "disturbed": result.disturbance or None,
            }
            for result in results
        ],
    }


def write_markdown(results: Sequence[Result], machine: dict[str, Any], plan: Plan, page: Path = PAGE) -> None:
    """Put the table and the machine between the markers of the page.

    Raises:
        ValueError: the page has no markers.
    """
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} must hold the lines {BEGIN} and {END}; the table goes between them")
    rows = [_heading(), *map(_row, results)]
    rule = ["---", *["---:"] * _NUMBERS, "---", "---"]
    table = "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:]))
    missed = "\n".join(f"- {line}" for line in verdicts(results, dict.fromkeys(known_reasons(page), "see below")))
    plots = "\n".join(f"![{name}](performance/{name}.svg)" for name in _draw(results))
    page.write_text(f"{before}{BEGIN}\n{_setting(machine, plan)}\n\n{table}\n\n{missed}\n\n{plots}\n{END}{after}")


def _draw(results: Sequence[Result]) -> list[str]:
    """Draw some of the figures; their names."""
    labels = {contender.name: contender.label for contender in _COLUMNS}
    PLOTS.mkdir(exist_ok=True)
    drawn = [result for result in results if result.figure.key in _PLOTTED]
    for result in drawn:
        (PLOTS / f"{result.figure.key}.svg").write_text(as_svg(result, labels))
    return [result.figure.key for result in drawn]


def _heading() -> list[str]:
    return ["figure", *(contender.label for contender in _COLUMNS), "ratio", "goal", "met"]


def _row(result: Result) -> list[str]:
    figure, medians = result.figure, result.medians
    shown = [
        f"{medians[contender.name]:,.{figure.digits}f}" if contender.name in medians else "" for contender in _COLUMNS
    ]
    ratio = "" if result.ratio is None else f"{result.ratio:.2f}x"
    goal = ""
    if figure.goal is not None:
        goal = figure.goal.words + ("" if result.goal is None else f": {result.goal:,.{figure.digits}f}")
    met = f"let off: {result.otherwise}" if result.is_let_off else _MET[result.is_met]
    if result.disturbance and result.goal is not None:
        met = "not judged: disturbed"
    title = f"{figure.title} ({figure.unit})" if figure.unit else figure.title
    return [title, *shown, ratio, goal, met]


def _setting(machine: dict[str, Any], plan: Plan) -> str:
    ours = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    peers = ", ".join(f"{name} {version or 'absent'}" for name, version in (machine["peers"] or {}).items())
    others = ", ".join(f"{name} {version}" for name, version in machine["queues"].items() if version)
    rounds = "one short round" if plan.rounds == 1 else f"medians of {plan.rounds} rounds"
    return (
        f"Measured {machine['date'][:10]} on {machine['cores']} cores of {machine['processor']} "
        f"({machine['system']}; load at the start {machine['load'][0]}), Python {machine['python']}, "
        f"Redis {machine['redis']} with its append-only file on; {rounds}, {plan.depth:,} tasks in the deep queue.\n"
        f"Our side: {ours}. FastMCP's side: {peers or 'not installed'}. Queues: {others or 'not installed'}."
    )
