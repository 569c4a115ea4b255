"""How the ranking error on held-out prompts falls with the number of prompts that the weights are fitted on."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.findings.wording import percent, plain, type_order
from harness.record.run import JsonRow, ResultsFolder
from harness.report.plots.spots import tell
from harness.report.plots.style import (
    LINE_STYLES,
    SLATES,
    Line,
    beside,
    darker,
    quiet_grid,
    spread,
    titled_figure,
)
from harness.report.plots.text_room import label_room

ALT = {"learning_curve": "Ranking error by number of fitting prompts"}
PLACE = "ranking"

FILE = "learning_curve.csv"


@dataclass(frozen=True)
class LearningCurve:
    """Ranking errors of one response type, fractions of 1: mean, lowest and highest over orders and seeds."""

    prompts: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def figures(results: ResultsFolder) -> dict[str, Figure]:
    curves = learning_curves(results.table(FILE, ("prompts", "error"), ("response_type",)))
    return {"learning_curve": _draw(curves)} if curves else {}


def learning_curves(rows: Sequence[JsonRow]) -> dict[str, LearningCurve]:
    """By response type; types with one size have no curve."""
    found: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if math.isfinite(row["error"]):
            found[row["response_type"]][row["prompts"]].append(row["error"])
    return {
        kind: _curve(by_size)
        for kind, by_size in sorted(found.items(), key=lambda item: type_order(item[0]))
        if len(by_size) > 1
    }


def _curve(by_size: dict[float, list[float]]) -> LearningCurve:
    sizes = sorted(by_size)
    values = [by_size[size] for size in sizes]
    return LearningCurve(
        np.array(sizes),
        np.array([np.mean(v) for v in values]),
        np.array([min(v) for v in values]),
        np.array([max(v) for v in values]),
    )


def _draw(curves: dict[str, LearningCurve]) -> Figure:
    ends = [_end_text(kind, curve) for kind, curve in curves.items()]
    right = max(1.5, label_room(ends, 8, "bold"))
    body, width = 3.1, 4.9 + right
    figure, top = titled_figure(width, body, _title(curves), NOTE)
    ax = figure.add_axes(
        (0.6 / width, top * 0.48 / body, (width - 0.6 - right) / width, top * (body - 0.6) / body)
    )
    for kind, curve in curves.items():
        for prompts, mean, low, high in zip(curve.prompts, curve.mean, curve.low, curve.high, strict=True):
            words = f"{percent(float(mean))} ({100 * low:.1f} to {100 * high:.1f})"
            tell(ax, prompts, 100 * mean, f"{plain(kind)}, {prompts:.0f} prompts\n{words}")
        tone, line = _type_look(kind)
        ax.plot(curve.prompts, 100 * curve.mean, marker="o", ms=3.2, lw=1.6, ls=line, color=tone)
        ax.fill_between(curve.prompts, 100 * curve.low, 100 * curve.high, color=tone, alpha=0.13, lw=0)
    ax.set_xscale("log", base=2)
    sizes = sorted({size for curve in curves.values() for size in curve.prompts.tolist()})
    ax.set_xticks(sizes)
    ax.minorticks_off()
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    ax.set_ylim(0, 1.08 * 100 * max(float(c.high.max()) for c in curves.values()) or 1.0)
    ax.set_xlabel("prompts fitted on")
    ax.set_ylabel("ranking error, %")
    quiet_grid(ax, "y")
    _name_ends(ax, curves)
    return figure


def _name_ends(ax: Axes, curves: dict[str, LearningCurve]) -> None:
    """Each curve's name and last value at the right, spread so that none covers another."""
    ends = [100 * float(curve.mean[-1]) for curve in curves.values()]
    low, high = ax.get_ylim()
    gap = 0.07 * (high - low)
    places = spread(ends, gap, low + gap / 2, high)
    for (kind, curve), place in zip(curves.items(), places, strict=True):
        beside(
            ax,
            _end_text(kind, curve),
            (1, place),
            6,
            xycoords=ax.get_yaxis_transform(),
            fontsize=8,
            fontweight="bold",
            color=darker(_type_look(kind)[0]),
        )


def _end_text(kind: str, curve: LearningCurve) -> str:
    return f"{plain(kind)}  {percent(float(curve.mean[-1]))}"


def _type_look(kind: str) -> tuple[str, Line]:
    """Tone and line of a response type: the paper's have their own, all others the last."""
    rank = min(type_order(kind)[0], 4)
    return SLATES[rank % 3], LINE_STYLES[rank]


NOTE = (
    "Held-out prompts are the same at every size. Line: mean over random orders of the fitting prompts; "
    "band: lowest to highest. The last point has all prompts."
)


def _title(curves: dict[str, LearningCurve]) -> str:
    falling = [plain(kind) for kind, curve in curves.items() if _enough(curve) >= curve.prompts[-1]]
    if falling:
        return f"The error still falls at the last size: {', '.join(falling)}"
    size = max(_enough(curve) for curve in curves.values())
    return f"From {size:.0f} prompts a response type on, more of them no longer lower the error"


def _enough(curve: LearningCurve, close: float = 0.005) -> float:
    """The smallest size from which on no mean lies more than `close` above the last."""
    above = np.flatnonzero(curve.mean - curve.mean[-1] > close)
    return float(curve.prompts[0 if not len(above) else int(above[-1]) + 1])
