"""Names beside their points, without one covering another: candidates are scored, the best taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation

ANGLES = [math.radians(a) for a in (0, 180, 35, 325, 145, 215, 90, 270, 60, 120, 240, 300)]
RADII = (9.0, 14.0, 21.0, 30.0, 42.0, 56.0)  # points
LEADER_FROM = 20.0  # points: from here on a thin line joins the label to its point
SWEEPS = 6
RADIUS_PRICE = 18.0  # of a point of distance, against a covered pixel at 72 dpi

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels
Place = tuple[float, tuple[float, float], Box]  # radius, offset of the text's centre in points, box


@dataclass(frozen=True)
class PointLabel:
    x: float
    y: float
    text: str
    colour: str
    size: float = 8.5


def place_labels(axes: Axes, labels: Sequence[PointLabel], obstacles: Sequence[tuple[Box, float]]) -> None:
    """Write each label near its point, clear of the other labels, of `obstacles` and of the frame.

    `obstacles` are boxes in pixels (markers, error bars, arrows) with the price of each pixel covered.
    The axes' place and limits must be final: overlaps are measured as drawn.
    """
    if not labels:
        return
    scale = axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr]
    anchors = [tuple(axes.transData.transform((item.x, item.y))) for item in labels]
    sizes = [_text_size(axes, item) for item in labels]
    options = [_candidates(anchor, size, scale) for anchor, size in zip(anchors, sizes, strict=True)]
    frame = axes.get_window_extent()
    cost = np.zeros((len(labels), len(RADII) * len(ANGLES)))
    for i, group in enumerate(options):
        for j, (radius, _, box) in enumerate(group):
            outside = _area(box) - _overlap(box, (frame.x0, frame.y0, frame.x1, frame.y1))
            covered = sum(price * _overlap(box, obstacle) for obstacle, price in obstacles)
            cost[i, j] = covered + 12.0 * outside + RADIUS_PRICE * radius * scale**2 + 0.01 * j
    for label, (radius, offset, _) in zip(labels, _choose(options, cost), strict=True):
        _write(axes, label, offset, leader=radius >= LEADER_FROM)


def _choose(options: list[list[Place]], cost: np.ndarray) -> list[Place]:
    """Coordinate descent: each label in turn takes its cheapest place, given where the others are."""
    chosen = [int(row.argmin()) for row in cost]
    for _ in range(SWEEPS):
        for i, group in enumerate(options):
            others = [options[k][chosen[k]][2] for k in range(len(options)) if k != i]
            clash = [sum(_overlap(box, other) for other in others) for _, _, box in group]
            chosen[i] = int(np.argmin(cost[i] + 25.0 * np.array(clash)))
    return [group[j] for group, j in zip(options, chosen, strict=True)]


def _candidates(anchor: tuple[float, float], size: tuple[float, float], scale: float) -> list[Place]:
    """A place for each angle and radius; `anchor` and `size` in pixels, `scale` pixels a point."""
    width, height = size
    found = []
    for radius in RADII:
        for angle in ANGLES:
            dx = math.cos(angle) * (radius * scale + width / 2 * abs(math.cos(angle)))
            dy = math.sin(angle) * (radius * scale + height / 2 * abs(math.sin(angle)))
            if abs(math.cos(angle)) > 0.3:  # beside the point: keep the nearer edge at the radius
                dx = math.copysign(abs(math.cos(angle)) * radius * scale + width / 2, math.cos(angle))
            x, y = anchor[0] + dx, anchor[1] + dy
            box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            found.append((radius, (dx / scale, dy / scale), box))
    return found


def _write(axes: Axes, label: PointLabel, offset: tuple[float, float], leader: bool) -> Annotation:
    arrow = {"arrowstyle": "-", "color": label.colour, "lw": 0.6, "alpha": 0.7, "shrinkA": 1, "shrinkB": 4}
    return axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=offset,
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=label.size,
        fontweight="bold",
        color=label.colour,
        arrowprops=arrow if leader else None,
        annotation_clip=False,
        path_effects=[withStroke(linewidth=2.2, foreground="white", alpha=0.85)],
        zorder=6,
    )


def _text_size(axes: Axes, label: PointLabel) -> tuple[float, float]:
    """Width and height in pixels, as drawn."""
    text = axes.text(0, 0, label.text, fontsize=label.size, fontweight="bold")
    canvas = axes.get_figure(root=True).canvas  # type: ignore[union-attr]
    assert isinstance(canvas, FigureCanvasAgg)
    box = text.get_window_extent(canvas.get_renderer())
    text.remove()
    return box.width + 2, box.height + 1


def _overlap(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
