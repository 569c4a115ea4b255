"""The trade-off figure: safety against usefulness, an arrow from each SFT model to what training made of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Wedge
from matplotlib.ticker import MaxNLocator

from evals.values.metrics_table import MetricRow
from harness.findings.frontier import BALANCE, SAFETY, USEFULNESS, FrontierPoint, frontier
from harness.findings.nonsense import doubt
from harness.findings.trends import LEAST_VALUES, sweeps
from harness.findings.verdict import NO_VERDICT, short_verdict
from harness.findings.wording import algorithm_of, judge_label, sft_of, with_interval
from harness.keys.shared import file_name
from harness.record.run import ResultsFolder
from harness.report.plots import xstest
from harness.report.plots.labels import Box, PointLabel, place_labels
from harness.report.plots.spots import tell
from harness.report.plots.style import (
    FAINT,
    GREY,
    YELLOW,
    Appearance,
    appearances,
    beside,
    draw_mark,
    quiet_grid,
    titled_figure,
)

ALT = {"tradeoff": "Safety against usefulness of every method, with 95 % intervals"}
PLACE = "table"

F1_LEVELS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
MARKER = 62.0  # area in points squared
MAX_PANELS = 3
CORNER = (5, 10, 20)  # points from all right: the zones of good values

Limits = tuple[float, float]  # of one axis, percent
Place = tuple[float, float]  # usefulness, safety, percent


def figures(results: ResultsFolder) -> dict[str, Figure]:
    """`tradeoff` for a run's first suite, `tradeoff-SUITE` for the others and for those of an evaluation; of an
    xstest its own, that has people beside each judge.
    """
    if judges := xstest.judges_of(results):
        return {"tradeoff": xstest.draw(results.metrics, judges)}
    suites = results.scores.suites(SAFETY, USEFULNESS)
    names = ["tradeoff", *(f"tradeoff-{file_name(suite)}" for suite in suites[1:])]
    if results.is_evaluation:  # its parts of a suite, such as categories, have no plot
        suites = results.scores.suites(SAFETY, USEFULNESS, BALANCE)
        names = [f"tradeoff-{file_name(suite)}" for suite in suites]
    return {name: draw(results, suite) for name, suite in zip(names, suites, strict=False)}


def draw(results: ResultsFolder, suite: str) -> Figure:
    """One panel a judge, on the same axes."""
    scores = results.scores
    panels = {judge: frontier(scores, suite, judge) for judge in scores.judges(suite, SAFETY)[:MAX_PANELS]}
    panels = {judge: points for judge, points in panels.items() if points}
    looks = appearances(p.method for points in panels.values() for p in points)
    limits = _limits([p for points in panels.values() for p in points])
    width, body = 0.9 + 4.35 * len(panels), 4.75
    title = doubt(results.samples) or (NO_VERDICT if results.warning else short_verdict(scores, suite))
    figure, top = titled_figure(width, body, title, _note(results, panels, suite))
    axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    figure.subplots_adjust(
        left=0.72 / width,
        right=1 - 0.52 / width,
        top=top * (1 - 0.42 / body),
        bottom=top * 0.53 / body,
        wspace=0.2,
    )
    for ax, (judge, points) in zip(axes, panels.items(), strict=True):
        _frame(ax, limits, judge)
        _draw_panel(ax, points, looks, _faint(results.metrics, points, suite, judge))
    axes[0].set_ylabel("Safety: responses without disallowed content, % (Not-Unsafe)")
    return figure


def _note(results: ResultsFolder, panels: dict[str, list[FrontierPoint]], suite: str) -> str:
    if results.is_evaluation:
        return f"Suite {suite}; bars: 95 % intervals that count the sampling of prompts."
    seeds = max((len(p.safety.by_seed) for points in panels.values() for p in points), default=0)
    small = "small dots: single seeds" if seeds > 1 else "small dots: single checkpoints"
    basis = (
        f"means over {seeds} seeds, bars: 95 % intervals over seeds"
        if seeds > 1
        else ("one seed, bars: 95 % intervals that count prompts, not training")
    )
    trained = f"{algorithm_of(p.method for points in panels.values() for p in points)} model"
    swept = [
        s
        for s in sweeps(p.method for points in panels.values() for p in points)
        if len(s.points) >= LEAST_VALUES
    ]
    joined = "; lines join the values of a swept number in order" if swept else ""
    arrows = f"arrows run from each SFT model (hollow) to its {trained} (filled)"
    return f"Suite {suite}; {basis}; {small}{joined}; {arrows}."


def _limits(points: list[FrontierPoint]) -> tuple[Limits, Limits]:
    """Both axes up to 100 %, down to just below the lowest point or bar."""

    def axis(values: list[float]) -> Limits:
        low = 100 * min((v for v in values if math.isfinite(v)), default=0.0)
        span = max(104.0 - low, 8.0)
        step = 10 if span > 45 else 5 if span > 18 else 2
        return max(step * math.floor((low - 0.09 * span) / step), -4.0), 100 + 0.055 * span

    useful = [v for p in points for v in (p.usefulness.ci_low, *p.usefulness.by_seed.values())]
    safe = [v for p in points for v in (p.safety.ci_low, *p.safety.by_seed.values())]
    return axis(useful), axis(safe)


def _frame(ax: Axes, limits: tuple[Limits, Limits], judge: str) -> None:
    ax.set_xlim(limits[0])
    ax.set_ylim(limits[1])
    quiet_grid(ax, "both")
    for spine in ("left", "bottom"):
        ax.spines[spine].set_visible(True)
    for axis, (low, _) in zip((ax.xaxis, ax.yaxis), limits, strict=True):
        ticks = MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True).tick_values(low, 100)
        axis.set_ticks([tick for tick in ticks if low <= tick <= 100])
    ax.plot([limits[0][0], 100, 100], [100, 100, limits[1][0]], color=FAINT, lw=0.8, zorder=1)
    ax.set_title(f"Judged by {judge_label(judge)}", pad=17)
    ax.set_xlabel("Usefulness: harmless requests answered, % (Not-Overrefuse)")
    _mark_corner(ax)
    _iso_f1(ax, limits)


def _mark_corner(ax: Axes) -> None:
    """The safe-and-useful corner: the same points in every figure, within 5, 10 and 20 of all right on both axes."""
    for reach in CORNER:
        shade: dict[str, Any] = {"color": YELLOW, "alpha": 0.16, "lw": 0, "zorder": 0}
        ax.add_patch(Wedge((100, 100), reach, 180, 270, **shade))
    ax.text(
        100,
        1.012,
        "safe and useful ↗",
        transform=ax.get_xaxis_transform(),
        ha="right",
        va="bottom",
        fontsize=7.8,
        style="italic",
        color=GREY,
    )


def _iso_f1(ax: Axes, limits: tuple[Limits, Limits]) -> None:
    """Curves of equal F1 (harmonic mean of both axes), named where they leave the square."""
    (x0, x1), (y0, _) = limits
    named = x0  # where the last name at the bottom ends
    for level in F1_LEVELS:
        end = 100 * level / (2 - level)  # the other axis where one is at 100 %
        even = np.array([*np.linspace(end, 100, 60), *(v for v in (x0, y0) if v > end)])
        x = np.unique(np.concatenate([even, _partner(even, level)]))  # even steps along both axes
        y = _partner(x, level)
        inside = (x > x0 - 1e-9) & (y > y0 - 1e-9)
        ax.plot(x[inside], y[inside], color="#cfcfcf", lw=0.8, ls=(0, (3, 3)), zorder=0.5)
        if end > y0 + 0.02 * (100 - y0):
            beside(ax, f"F1 {100 * level:.0f}", (x1, end), 2, fontsize=6.8, color=FAINT)
        elif inside.any() and x[inside][-1] >= named:
            at = (x[inside][-1], y0)
            beside(ax, f"F1 {100 * level:.0f}", at, 1, fontsize=6.8, color=FAINT, va="bottom", zorder=0.6)
            named = at[0] + 0.085 * (x1 - x0)


def _partner(x: np.ndarray, level: float) -> np.ndarray:
    """The other axis' value, in percent, at which F1 is `level`."""
    return 100 * level * x / (2 * x - 100 * level)


def _draw_panel(
    ax: Axes, points: list[FrontierPoint], looks: dict[str, Appearance], faint: dict[str, list[Place]]
) -> None:
    boxes: list[tuple[Box, float]] = []
    where = {p.method: (100 * p.usefulness.value, 100 * p.safety.value) for p in points}
    for method, (x, y) in where.items():
        source = sft_of(method, list(where))
        if source is not None:
            boxes += _arrow(ax, where[source], (x, y), looks[method])
    for sweep in sweeps(where):
        if len(sweep.points) >= LEAST_VALUES:
            places = [where[method] for _, method in sweep.points]
            xs, ys = zip(*places, strict=True)
            ax.plot(xs, ys, color=looks[sweep.points[0][1]].colour, lw=1.3, alpha=0.6, zorder=3.2)
    for method, dots in faint.items():
        look = looks[method]
        xs, ys = zip(*dots, strict=True)
        ax.scatter(xs, ys, s=9, color=look.colour, marker=look.marker, alpha=0.33, lw=0, zorder=3)
    for point in points:
        tell(ax, *where[point.method], _words(point, looks[point.method]), point.method)
        boxes += _mark(ax, point, where[point.method], looks[point.method])
    size = 8.5 if len(points) <= 8 else 7.3
    labels = [PointLabel(*where[p.method], looks[p.method].label, looks[p.method].ink, size) for p in points]
    place_labels(ax, labels, boxes)


def _words(point: FrontierPoint, look: Appearance) -> str:
    values = [("Not-Unsafe", point.safety), ("Not-Overrefuse", point.usefulness), ("F1", point.f1)]
    return "\n".join(
        [look.label, *(f"{name} {with_interval(e.value, e.ci_low, e.ci_high)}" for name, e in values if e)]
    )


def _mark(
    ax: Axes, point: FrontierPoint, place: tuple[float, float], look: Appearance
) -> list[tuple[Box, float]]:
    """Error bars and marker; the boxes they cover, in pixels, each with the price of writing over it."""
    x, y = place
    bars = [(100 * e.ci_low, 100 * e.ci_high) for e in (point.usefulness, point.safety)]
    known = [bar if all(map(math.isfinite, bar)) else (v, v) for bar, v in zip(bars, place, strict=True)]
    (left, right), (low, high) = known
    ax.plot([left, right], [y, y], color=look.colour, lw=1.2, alpha=0.8, zorder=4)
    ax.plot([x, x], [low, high], color=look.colour, lw=1.2, alpha=0.8, zorder=4)
    draw_mark(ax, (x, y), look, MARKER)
    (cx, cy), (lx, ly), (rx, ry) = ax.transData.transform([(x, y), (left, low), (right, high)])
    pad = 5.0 * ax.figure.dpi / 72
    marker = (cx - pad, cy - pad, cx + pad, cy + pad)
    return [(marker, 20.0), ((lx, cy - 2, rx, cy + 2), 6.0), ((cx - 2, ly, cx + 2, ry), 6.0)]


def _arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], look: Appearance
) -> list[tuple[Box, float]]:
    style = {
        "arrowstyle": "-|>,head_width=0.22,head_length=0.45",
        "color": look.colour,
        "lw": 1.1,
        "alpha": 0.55,
    }
    ax.annotate("", end, start, arrowprops={**style, "shrinkA": 5, "shrinkB": 6}, zorder=3.5)
    line = np.linspace(ax.transData.transform(start), ax.transData.transform(end), 14)
    return [((x - 4, y - 4, x + 4, y + 4), 3.0) for x, y in line]


def _faint(
    rows: list[MetricRow], points: list[FrontierPoint], suite: str, judge: str
) -> dict[str, list[Place]]:
    """Small dots: each seed's point, or with one seed each checkpoint's; (usefulness, safety) in percent."""
    dots: dict[str, list[Place]] = {}
    for point in points:
        if point.safety.over_seeds:
            pairs = [(point.usefulness.by_seed.get(s), v) for s, v in point.safety.by_seed.items()]
        else:
            mine = [r for r in rows if (r.method, r.suite, r.judge) == (point.method, suite, judge)]
            at = {(r.metric, r.checkpoint): r.value for r in mine}
            pairs = [(at.get((USEFULNESS, c)), v) for (m, c), v in at.items() if m == SAFETY and c.isdigit()]
        known = [
            (100 * x, 100 * y) for x, y in pairs if x is not None and math.isfinite(x) and math.isfinite(y)
        ]
        if known:
            dots[point.method] = known
    return dots
