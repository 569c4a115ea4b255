"""What a swept number does: safety, usefulness and F1 over its values, or a grader's accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from harness.findings.frontier import BALANCE, SAFETY, USEFULNESS, Scores
from harness.findings.papers_claims import ACCURACY, GOLD
from harness.findings.trends import LEAST_VALUES, Sweep, sweeps
from harness.findings.wording import judge_label, method_label, metric_label, plain, shorten, with_interval
from harness.keys.shared import file_name
from harness.record.run import ResultsFolder
from harness.report.plots.legend import Legend
from harness.report.plots.spots import tell
from harness.report.plots.style import SLATES, appearances, quiet_grid, titled_figure

ALT = {"swept": "Metrics over the values of a swept number, with 95 % intervals"}
PLACE = "fronts"
GRADER = "grader"  # the base of a sweep of graders
Panel = tuple[str, str, str, str]  # title, suite, metric, judge


def figures(results: ResultsFolder) -> dict[str, Figure]:
    """`swept-KEY` of each number that was swept alone."""
    scores = results.scores
    suite = next(iter(scores.suites(SAFETY, USEFULNESS)), "")
    judges = scores.judges(suite, SAFETY)[:1]
    found: dict[str, list[tuple[Panel, list[Sweep]]]] = {}
    panels = [(metric_label(m), suite, m, judge) for judge in judges for m in (SAFETY, USEFULNESS, BALANCE)]
    for panel in (*panels, ("Accuracy of the grader", GOLD, ACCURACY, "")):
        _, of, metric, judge = panel
        for sweep in sweeps(scores.methods(of, metric, judge)):
            if not sweep.rest and len(sweep.points) >= LEAST_VALUES:
                drawn = found.setdefault(sweep.key, [])
                if not drawn or drawn[-1][0] != panel:
                    drawn.append((panel, []))
                drawn[-1][1].append(sweep)
    return {f"swept-{file_name(key)}": _draw(scores, key, drawn) for key, drawn in found.items()}


def _draw(scores: Scores, key: str, drawn: Sequence[tuple[Panel, list[Sweep]]]) -> Figure:
    name = plain(key.rpartition(".")[2])
    judge = next((panel[3] for panel, _ in drawn if panel[3]), "")
    seeds = f"means over {len(scores.seeds)} seeds" if len(scores.seeds) > 1 else "one seed"
    judged = f"judged by {judge_label(judge)}; " if judge else ""
    width = max(5.4, 2.75 * len(drawn) + 0.6)
    looks = [_look(sweep) for sweep in drawn[0][1]]
    legend = Legend.of([str(look["label"]) for look in looks], width)
    below = legend.height if len(looks) > 1 else 0.0
    body = 2.3 + below
    figure, top = titled_figure(width, body, f"What {name} does", f"{judged}{seeds}; bars: 95 % intervals.")
    axes = figure.subplots(1, len(drawn), squeeze=False)[0]
    figure.subplots_adjust(
        left=0.6 / width,
        right=1 - 0.2 / width,
        top=top * (1 - 0.3 / body),
        bottom=top * (0.46 + below) / body,
        wspace=0.32,
    )
    for ax, (panel, found) in zip(axes, drawn, strict=True):
        _panel(ax, scores, panel, found, name)
    if below:
        legend.draw(figure, [Line2D([], [], ms=5, lw=1.5, **look) for look in looks])
    return figure


def _look(sweep: Sweep) -> dict[str, Any]:
    """A model's own; a grader is no model."""
    if sweep.base == GRADER:
        return {"color": SLATES[0], "marker": "o", "label": method_label(sweep.base)}
    look = appearances([sweep.base])[sweep.base]
    return {"color": look.colour, "marker": look.marker, "label": look.label}


def _panel(ax: Axes, scores: Scores, panel: Panel, found: Sequence[Sweep], name: str) -> None:
    title, suite, metric, judge = panel
    values = sorted({value for sweep in found for value, _ in sweep.points})
    for sweep in found:
        look = _look(sweep)
        known = [
            (value, method, e)
            for value, method in sweep.points
            if (e := scores.estimate(method, suite, metric, judge)) is not None
        ]
        ax.plot(
            [value for value, _, _ in known],
            [100 * e.value for _, _, e in known],
            ms=5,
            lw=1.5,
            zorder=3,
            **look,
        )
        for value, method, e in known:
            ends = [100 * e.ci_low, 100 * e.ci_high]
            ax.plot([value, value], ends, color=look["color"], lw=1.1, alpha=0.7, zorder=2)
            told = f"{method_label(method)}\n{title} {with_interval(e.value, e.ci_low, e.ci_high)}"
            tell(ax, value, 100 * e.value, told, "" if sweep.base == GRADER else method)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(values))
    ax.xaxis.set_major_formatter(FixedFormatter([f"{value:g}" for value in values]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.margins(x=0.08, y=0.12)
    ax.set_title(title)
    ax.set_xlabel(shorten(name, 22))
    ax.set_ylabel("%", labelpad=1)
    quiet_grid(ax, "y")
