"""Tick labels that no other covers: fewer of them where they would, and a factor of ten stands with the unit."""

from __future__ import annotations

from itertools import pairwise

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, MaxNLocator
from matplotlib.transforms import Bbox

from harness.report.plots.text_room import renderer_of

GAP = 0.35  # of a label's height, between two labels
MOST = 8  # ticks to begin with where they are too many


def clear_ticks(figure: Figure) -> None:
    """Of every axis that is seen. Names at an axis stay: who draws gives them their room."""
    for ax in figure.axes:
        if ax.get_visible():
            for axis in (ax.xaxis, ax.yaxis):
                _factor_with_label(axis)
                _thin_out(axis)


def _factor_with_label(axis: Axis) -> None:
    """Matplotlib writes `1e6` into the corner, over the axis' name: it becomes a part of the name."""
    axis.get_tightbbox(renderer_of(axis.get_figure(root=True)))  # type: ignore[arg-type]
    factor = axis.get_offset_text()
    text = factor.get_text()
    if not text or not axis.get_visible() or not factor.get_visible():
        return
    factor.set_visible(False)
    sign = "" if text[0] in "+−-" else "× "
    axis.set_label_text(f"{axis.get_label_text()} {sign}{text}".strip())


def _thin_out(axis: Axis) -> None:
    locator = axis.get_major_locator()
    if isinstance(axis.get_major_formatter(), FixedFormatter) or not _overlap(_boxes(axis)):
        return
    if isinstance(locator, MaxNLocator):
        for ticks in range(MOST, 0, -1):
            locator.set_params(nbins=ticks)
            if not _overlap(_boxes(axis)):
                return
    axis.set_ticks(_apart(_boxes(axis)))


def _boxes(axis: Axis) -> dict[float, Bbox]:
    """{place in the data: the label's box} of the ticks with a label inside the axis, in their order."""
    renderer = renderer_of(axis.get_figure(root=True))  # type: ignore[arg-type]
    axis.get_tightbbox(renderer)  # gives the ticks their places
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    labels = {tick.get_loc(): tick.label1 for tick in ticks if tick.label1.get_visible()}
    return {at: label.get_window_extent(renderer) for at, label in sorted(labels.items()) if label.get_text()}


def _overlap(boxes: dict[float, Bbox]) -> bool:
    return any(_touch(a, b) for a, b in pairwise(boxes.values()))


def _touch(a: Bbox, b: Bbox) -> bool:
    gap = GAP * min(a.height, b.height)
    return a.x0 - gap < b.x1 and b.x0 - gap < a.x1 and a.y0 < b.y1 and b.y0 < a.y1


def _apart(boxes: dict[float, Bbox]) -> list[float]:
    """The last tick and, from it on, each that is clear of the one kept before."""
    kept: list[float] = []
    for at in reversed(boxes):
        if not kept or not _touch(boxes[at], boxes[kept[-1]]):
            kept.append(at)
    return kept[::-1]
