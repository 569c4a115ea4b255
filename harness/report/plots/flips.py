"""Paired differences of the main claims over a swept number, and where each passes 0."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from harness.findings.flips import Followed, followed
from harness.findings.frontier import SAFETY, USEFULNESS
from harness.findings.wording import judge_label, method_label, plain, points, shorten
from harness.keys.shared import file_name
from harness.record.run import ResultsFolder
from harness.report.plots.spots import tell
from harness.report.plots.style import GREY, SLATES, quiet_grid, titled_figure

ALT = {
    "flips": "Paired differences of the main claims over the values of a swept number, with 95 % intervals"
}
PLACE = "fronts"
COLUMNS = 3


def figures(results: ResultsFolder) -> dict[str, Figure]:
    """`flips-KEY` of each number that was swept alone, where models are compared at its values."""
    scores = results.scores
    suite = next(iter(scores.suites(SAFETY, USEFULNESS)), "")
    judge = next(iter(scores.judges(suite, SAFETY)), "")
    found = followed(results.metrics, suite, judge) if judge else {}
    seeds = len(scores.seeds)
    return {f"flips-{file_name(key)}": _draw(key, lines, judge, seeds) for key, lines in found.items()}


def _draw(key: str, lines: Sequence[Followed], judge: str, seeds: int) -> Figure:
    name = plain(key.rpartition(".")[2])
    over = f"paired by {seeds} seeds" if seeds > 1 else "one seed"
    note = f"First minus second, judged by {judge_label(judge)}, {over}; bars: 95 % intervals; dashed: where it is 0."
    columns, rows = min(COLUMNS, len(lines)), -(-len(lines) // COLUMNS)
    width, body = max(5.4, 3.0 * columns + 0.4), 2.5 * rows
    figure, top = titled_figure(width, body, f"{_title(lines)} along {name}", note)
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(
        left=0.62 / width,
        right=1 - 0.2 / width,
        top=top * (1 - 0.3 / body),
        bottom=top * 0.5 / body,
        wspace=0.34,
        hspace=0.62,
    )
    for ax in axes.flat[len(lines) :]:
        ax.set_visible(False)
    for ax, line in zip(axes.flat, lines, strict=False):
        _panel(ax, line, name)
    return figure


def _title(lines: Sequence[Followed]) -> str:
    flipping = sorted({line.number for line in lines if line.zeros})
    if not flipping:
        return "No claim flips"
    named = ", ".join(map(str, flipping))
    return f"Claim {named} flips" if len(flipping) == 1 else f"Claims {named} flip"


def _panel(ax: Axes, line: Followed, name: str) -> None:
    values = [value for value, _ in line.points]
    ax.axhline(0.0, color=GREY, lw=0.8, zorder=1)
    for zero in line.zeros:
        ax.axvline(zero, color=GREY, lw=0.9, ls="--", zorder=1)
        ax.annotate(
            f"{zero:.2g}",
            (zero, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -3),
            textcoords="offset points",
            va="top",
            fontsize=7.6,
        )
    told = [100 * difference.value for _, difference in line.points]
    ax.plot(values, told, color=SLATES[0], marker="o", ms=4.5, lw=1.5, zorder=3)
    pair = f"{method_label(line.first)} − {method_label(line.second)}"
    for value, difference in line.points:
        low, high = 100 * difference.ci_low, 100 * difference.ci_high
        ax.plot([value, value], [low, high], color=SLATES[0], lw=1.1, alpha=0.7, zorder=2)
        said = f"{points(difference.value)} ({points(difference.ci_low)} to {points(difference.ci_high)})"
        tell(ax, value, 100 * difference.value, f"{pair}, {line.what}\n{name} {value:g}: {said}")
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(values))
    ax.xaxis.set_major_formatter(FixedFormatter([f"{value:g}" for value in values]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.margins(x=0.1, y=0.14)
    ax.set_title(f"{line.number}. {shorten(pair, 34)}", fontsize=8.4)
    ax.set_xlabel(shorten(name, 22))
    ax.set_ylabel(f"{line.what}, points", labelpad=1)
    quiet_grid(ax, "y")
