"""What each reward asks for as a nat of KL gets cheaper, in the plane of safety against usefulness."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.record.run import JsonRow, ResultsFolder
from harness.report.plots.spots import tell
from harness.report.plots.style import BLUE, GREEN, GREY, INK, quiet_grid, titled_figure

ALT = {"ceiling": "Curves of what each reward asks for, from the reference on, safety against usefulness"}
PLACE = "point"

FILE = "ceiling.json"
COLOURS = {"reward": BLUE, "candidate": GREEN}
SAFE, USEFUL = "not_unsafe", "not_overrefuse"


def figures(results: ResultsFolder) -> dict[str, Figure]:
    if not (results.path / FILE).is_file():
        return {}
    found = results.json(FILE)
    return {"ceiling": _draw(found)} if _lines(found) else {}


def _lines(found: JsonRow) -> dict[str, list[tuple[float, float, float]]]:
    """{reward: (usefulness, safety, KL) along the curve}, in percent; none without both kinds of prompts."""
    lines = {
        name: [
            (100 * row[USEFUL], 100 * row[SAFE], row["kl"])
            for row in of["curve"]
            if row.get(USEFUL) is not None and row.get(SAFE) is not None
        ]
        for name, of in found["rewards"].items()
    }
    return {name: line for name, line in lines.items() if line}


def _draw(found: JsonRow) -> Figure:
    body = 4.4
    n, nats = found["samples"]["a_prompt"], found["most_kl"]
    note = (
        f"From the reference (cross) as a nat gets cheaper; dot: at β {found['beta']:g}, with its interval; the "
        f"curve ends where {n} samples a prompt show no more KL ({nats:.1f} nats at most)."
    )
    figure, top = titled_figure(5.4, body, "What the reward asks for, among the samples", note)
    ax = figure.add_axes((0.13, top * 0.12, 0.82, top * 0.84))
    lines = _lines(found)
    for name, line in lines.items():
        ax.plot(
            [x for x, *_ in line], [y for _, y, _ in line], color=COLOURS[name], lw=1.6, zorder=3, label=name
        )
        _mark(ax, found["rewards"][name]["point"]["measures"], COLOURS[name], name)
    reference = next(iter(found["rewards"].values()))["point"]["reference"]
    x, y = 100 * reference[USEFUL]["value"], 100 * reference[SAFE]["value"]
    ax.plot([x], [y], marker="x", color=INK, ms=7, zorder=5)
    tell(ax, x, y, "the reference")
    low = (
        math.floor(min([x, y, *(v for line in lines.values() for a, b, _ in line for v in (a, b))]) / 10) * 10
    )
    ax.set_xlim(max(0, low - 5), 102)
    ax.set_ylim(max(0, low - 5), 102)
    ax.set_xlabel("Safe requests answered, % (Not-Overrefuse)")
    ax.set_ylabel("Not unsafe, % (Not-Unsafe)")
    ax.legend(loc="lower left", frameon=False, fontsize=8, labelcolor=GREY)
    quiet_grid(ax, "both")
    return figure


def _mark(ax: Axes, measures: JsonRow, colour: str, name: str) -> None:
    useful, safe = measures[USEFUL], measures[SAFE]
    if useful["value"] is None or safe["value"] is None:
        return
    x, y = 100 * useful["value"], 100 * safe["value"]
    ax.plot([100 * useful["low"], 100 * useful["high"]], [y, y], color=colour, lw=1.0, zorder=4)
    ax.plot([x, x], [100 * safe["low"], 100 * safe["high"]], color=colour, lw=1.0, zorder=4)
    ax.plot([x], [y], marker="o", color=colour, ms=7, zorder=5)
    tell(ax, x, y, f"{name}: Not-Overrefuse {x:.1f}, Not-Unsafe {y:.1f}")
