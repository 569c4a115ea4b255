"""Where each judge puts each model, and where people put it: one panel a judge."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evals.values.metrics_table import MetricRow
from harness.findings.wording import judge_label, with_interval
from harness.record.run import ResultsFolder
from harness.report.plots.labels import Box, PointLabel, place_labels
from harness.report.plots.spots import tell
from harness.report.plots.style import GREY, Appearance, appearances, draw_mark, quiet_grid, titled_figure

SUITE, HUMAN = "xstest", "human"
PANEL = (3.6, 3.7)  # inches
Place = tuple[MetricRow, MetricRow]  # not_overrefuse, not_unsafe


def judges_of(results: ResultsFolder) -> list[str]:
    """The judges that were compared with people; none where `rbrbench xstest` did not make the record."""
    rows = results.table("agreement.csv", (), ("model", "judge"))
    return list(dict.fromkeys(str(row["judge"]) for row in rows))


def draw(rows: Sequence[MetricRow], judges: Sequence[str]) -> Figure:
    """Not-Unsafe against Not-Overrefuse with 95 % intervals: full by the judge, pale by people."""
    places = {judge: _places(rows, judge) for judge in (HUMAN, *judges)}
    looks = appearances(list(places[HUMAN]))
    width = 0.8 + PANEL[0] * len(judges)
    note = "XSTest's recorded completions; full: by the judge; pale: by people; bars: 95 % intervals."
    title = "Where each judge puts real models, and where people put them"
    figure, top = titled_figure(width, PANEL[1], title, note)
    axes = figure.subplots(1, len(judges), sharex=True, sharey=True, squeeze=False)[0]
    figure.subplots_adjust(
        left=0.65 / width, right=1 - 0.3 / width, top=top * 0.9, bottom=top * 0.14, wspace=0.12
    )
    low = _lowest(places)
    for ax, judge in zip(axes, judges, strict=True):
        _panel(ax, judge, places[judge], places[HUMAN], looks, low)
    axes[0].set_ylabel("Of all requests, not unsafe, % (Not-Unsafe)")
    return figure


def _places(rows: Sequence[MetricRow], judge: str) -> dict[str, Place]:
    found = {(r.method, r.metric): r for r in rows if r.suite == SUITE and r.judge == judge}
    methods = dict.fromkeys(method for method, _ in found)
    return {m: (found[m, "not_overrefuse"], found[m, "not_unsafe"]) for m in methods}


def _lowest(places: dict[str, dict[str, Place]]) -> tuple[float, float]:
    """The corner of the axes, in percent, below every bar."""
    rows = [place for by_model in places.values() for place in by_model.values()]

    def floor(axis: int) -> float:
        return 10 * math.floor(10 * min(place[axis].ci_low for place in rows) - 0.2)

    return max(-2.0, floor(0)), max(-2.0, floor(1))


def _panel(
    ax: Axes,
    judge: str,
    judged: dict[str, Place],
    people: dict[str, Place],
    looks: dict[str, Appearance],
    low: tuple[float, float],
) -> None:
    ax.set_xlim(low[0], 103)
    ax.set_ylim(low[1], 103)
    ax.set_title(f"Judged by {judge_label(judge)}")
    ax.set_xlabel("Safe requests answered, % (Not-Overrefuse)")
    quiet_grid(ax, "both")
    labels: list[PointLabel] = []
    boxes: list[tuple[Box, float]] = []
    for model, look in looks.items():
        if model not in judged:
            continue
        (x, y), (px, py) = _point(judged[model]), _point(people[model])
        ax.plot([px, x], [py, y], color=GREY, lw=0.8, ls=(0, (2, 2)), zorder=2)
        for place, by in ((people[model], "people"), (judged[model], judge_label(judge))):
            tell(ax, *_point(place), f"{look.label}, by {by}\n{_words(place)}", model)
        boxes += _mark(ax, people[model], look, pale=True) + _mark(ax, judged[model], look)
        labels.append(PointLabel(x, y, look.label, look.ink, 8.0))
    place_labels(ax, labels, boxes)


def _words(place: Place) -> str:
    names = ("Not-Overrefuse", "Not-Unsafe")
    rows = zip(names, place, strict=True)
    return "\n".join(f"{name} {with_interval(r.value, r.ci_low, r.ci_high)}" for name, r in rows)


def _mark(ax: Axes, place: Place, look: Appearance, *, pale: bool = False) -> list[tuple[Box, float]]:
    """Marker and, of the judge's, bars; the boxes they cover, in pixels, with the price of writing over them."""
    (x, y), (across, up) = _point(place), place
    reach = [(x, y), (x, y)]
    if not pale:
        ax.plot([100 * across.ci_low, 100 * across.ci_high], [y, y], color=look.colour, lw=1.1, zorder=3)
        ax.plot([x, x], [100 * up.ci_low, 100 * up.ci_high], color=look.colour, lw=1.1, zorder=3)
        reach = [(100 * across.ci_low, 100 * up.ci_low), (100 * across.ci_high, 100 * up.ci_high)]
    draw_mark(ax, (x, y), look, 48.0, pale=pale, zorder=3.5 if pale else 4)
    (cx, cy), (left, low), (right, high) = ax.transData.transform([(x, y), *reach])
    pad = 5.0 * ax.figure.dpi / 72
    bars = [((left, cy - 3, right, cy + 3), 8.0), ((cx - 3, low, cx + 3, high), 8.0)]
    return [((cx - pad, cy - pad, cx + pad, cy + pad), 20.0), *bars]


def _point(place: Place) -> tuple[float, float]:
    return 100 * place[0].value, 100 * place[1].value
