"""Reliability: is a grade of 0.8 right in 80 % of the cases? One panel a grader."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evals.graders.calibration import calibration_error
from harness.findings.wording import shorten
from harness.record.run import ResultsFolder
from harness.report.plots.style import FAINT, GREY, SLATES, quiet_grid, titled_figure

ALT = {"reliability": "Reliability of each grader: share of true labels by grade"}

FILE = "reliability.csv"
# Panels a row; inches of a panel's side, and of its words above and below.
COLUMNS, PANEL, ABOVE = 3, 2.2, 0.9
HIGHEST_BAR = 0.16  # of the panel, for the bin with the most grades


class Point(NamedTuple):
    """One bin: mean grade, share of true labels with its interval, number of grades."""

    mean_grade: float
    share_true: float
    low: float
    high: float
    n: float


def figures(results: ResultsFolder) -> dict[str, Figure]:
    curves = curves_of(results)
    errors = {name: calibration_error([p._asdict() for p in points]) for name, points in curves.items()}
    return {"reliability": reliability_figure(curves, errors)} if curves else {}


def curves_of(results: ResultsFolder) -> dict[str, list[Point]]:
    """By grader, in the order of the table."""
    curves: dict[str, list[Point]] = {name: [] for name in results.manifest.get("graders", {})}
    for row in results.table(FILE, Point._fields, ("grader",)):
        curves.setdefault(row["grader"], []).append(Point(*(row[field] for field in Point._fields)))
    return curves


def reliability_figure(curves: Mapping[str, Sequence[Point]], errors: Mapping[str, float]) -> Figure:
    """`curves` and `errors` (expected calibration errors, 0..1) by grader."""
    best = min(errors, key=lambda name: (math.isnan(errors[name]), errors[name]))
    title = f"{shorten(best)}: a grade is {100 * errors[best]:.1f} points from the share of true labels"
    if len(curves) > 1:
        title += ", the least of the graders"
    note = (
        "Points: bins of the grade with 95 % intervals over prompts, all propositions together; on the line a "
        "grade is an honest probability. Bars: number of grades in the bin."
    )
    columns = min(COLUMNS, len(curves))
    rows = math.ceil(len(curves) / columns)
    width, body = max(0.9 + columns * (PANEL + 0.35), 4.6), rows * (PANEL + ABOVE)
    figure, top = titled_figure(width, body, title, note)
    height = body / top
    for number, (name, points) in enumerate(curves.items()):
        row, column = divmod(number, columns)
        left = 0.6 + column * (PANEL + 0.35)
        bottom = body - (row + 1) * (PANEL + ABOVE) + 0.5
        axes = figure.add_axes((left / width, bottom / height, PANEL / width, PANEL / height))
        _panel(axes, f"{shorten(name, 28)}\nerror {100 * errors[name]:.1f}", points)
        if column == 0:
            axes.set_ylabel("share of true labels")
        axes.set_xlabel("grade")
    return figure


def _panel(axes: Axes, title: str, points: Sequence[Point]) -> None:
    most = max((point.n for point in points), default=1)
    for point in points:
        axes.bar(point.mean_grade, HIGHEST_BAR * point.n / most, width=0.05, color=FAINT, alpha=0.6, zorder=1)
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.9, ls=(0, (4, 2)), zorder=2)
    grades, shares = [p.mean_grade for p in points], [p.share_true for p in points]
    spans = [[max(p.share_true - p.low, 0) for p in points], [max(p.high - p.share_true, 0) for p in points]]
    axes.errorbar(
        grades, shares, yerr=spans, fmt="o-", ms=3.5, lw=1.2, elinewidth=1, color=SLATES[0], zorder=3
    )
    axes.set_title(title)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    quiet_grid(axes, "both")
