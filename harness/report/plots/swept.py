"""What a swept number does: safety, usefulness and F1 over its values, or a grader's accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from harness.findings.claims import ACCURACY, GOLD
from harness.findings.frontier import BALANCE, SAFETY, USEFULNESS, Scores
from harness.findings.trends import LEAST_VALUES, Sweep, sweeps
from harness.findings.wording import judge_label, method_label, metric_label, plain, shorten, with_interval
from harness.keys.shared import file_name
from harness.record.run import ResultsFolder
from harness.report.plots.spots import tell
from harness.report.plots.style import SLATES, appearances, quiet_grid, titled_figure

ALT = {"swept": "Metrics over the values of a swept number, with 95 % intervals"}
PLACE = "fronts"
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
    width, body = max(5.4, 2.75 * len(drawn) + 0.6), 2.6
    figure, top = titled_figure(width, body, f"What {name} does", f"{judged}{seeds}; bars: 95 % intervals.")
    axes = figure.subplots(1, len(drawn), squeeze=False)[0]
    figure.subplots_adjust(
        left=0.6 / width,
        right=1 - 0.2 / width,
        top=top * (1 - 0.3 / body),
        bottom=top * 0.75 / body,
        wspace=0.32,
    )
    for ax, (panel, found) in zip(axes, drawn, strict=True):
        _panel(ax, scores, panel, found, name)
    handles = [line for line in axes[0].get_lines() if not str(line.get_label()).startswith("_")]
    if len(handles) > 1:
        figure.legend(handles=handles, loc="lower center", ncol=3, frameon=False, fontsize=8)
    return figure


def _panel(ax: Axes, scores: Scores, panel: Panel, found: Sequence[Sweep], name: str) -> None:
    title, suite, metric, judge = panel
    values = sorted({value for sweep in found for value, _ in sweep.points})
    for sweep in found:
        look = appearances([sweep.base])[sweep.base] if sweep.base != "grader" else None
        colour, marker = (look.colour, look.marker) if look else (SLATES[0], "o")
        known = [
            (value, method, e)
            for value, method in sweep.points
            if (e := scores.estimate(method, suite, metric, judge)) is not None
        ]
        ax.plot(
            [value for value, _, _ in known],
            [100 * e.value for _, _, e in known],
            color=colour,
            marker=marker,
            ms=5,
            lw=1.5,
            label=look.label if look else method_label(sweep.base),
            zorder=3,
        )
        for value, method, e in known:
            ax.plot(
                [value, value], [100 * e.ci_low, 100 * e.ci_high], color=colour, lw=1.1, alpha=0.7, zorder=2
            )
            told = f"{method_label(method)}\n{title} {with_interval(e.value, e.ci_low, e.ci_high)}"
            tell(ax, value, 100 * e.value, told, "" if look is None else method)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(values))
    ax.xaxis.set_major_formatter(FixedFormatter([f"{value:g}" for value in values]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.margins(x=0.08, y=0.12)
    ax.set_title(title)
    ax.set_xlabel(shorten(name, 22))
    ax.set_ylabel("%", labelpad=1)
    quiet_grid(ax, "y")
