"""A figure as a bar chart, in plain SVG that reads on light and dark pages. No measuring here."""

from html import escape

from bench.contenders import TASKMILL
from bench.figures import Result

__all__ = ["as_svg"]

_WIDTH, _ROW, _LABEL, _BAR, _TOP = 720, 24, 190, 420, 34
_OURS, _THEIRS, _GOAL, _TEXT = "#2a78b5", "#9aa5b1", "#c0392b", "#7a828a"


def as_svg(result: Result, labels: dict[str, str]) -> str:
    """One bar a contender, the best first, and a line where the goal is. `labels`: contender -> what to call it."""
    figure, medians = result.figure, result.medians
    names = sorted(medians, key=lambda name: medians[name], reverse=figure.more_is_better)
    most = max([*medians.values(), result.goal or 0.0]) or 1.0
    height = _TOP + _ROW * len(names) + 22
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f'<g font-family="sans-serif" font-size="13" fill="{_TEXT}">',
        f'<text x="0" y="16" font-weight="bold">{escape(figure.title)} ({escape(figure.unit)})</text>',
    ]
    for at, name in enumerate(names):
        y, length = _TOP + _ROW * at, _BAR * medians[name] / most
        colour = _OURS if name == TASKMILL.name else _THEIRS
        parts.append(f'<text x="{_LABEL - 8}" y="{y + 13}" text-anchor="end">{escape(labels[name])}</text>')
        parts.append(f'<rect x="{_LABEL}" y="{y}" width="{length:.1f}" height="{_ROW - 7}" fill="{colour}"/>')
        shown = f"{medians[name]:,.{figure.digits}f}"
        parts.append(f'<text x="{_LABEL + length + 6:.1f}" y="{y + 13}">{shown}</text>')
    if result.goal is not None and figure.goal is not None:
        x, foot = _LABEL + _BAR * result.goal / most, _TOP + _ROW * len(names)
        parts.append(
            f'<line x1="{x:.1f}" y1="{_TOP - 4}" x2="{x:.1f}" y2="{foot}" stroke="{_GOAL}" stroke-width="1.5"/>'
        )
        words = escape(figure.goal.words)
        parts.append(f'<text x="{x:.1f}" y="{foot + 14}" text-anchor="middle" fill="{_GOAL}">{words}</text>')
    return "\n".join([*parts, "</g></svg>", ""])
