"""The room that text takes, as drawn: names at axes, lines of a heading, values beside bars."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Annotation

MARGIN = 0.16  # inches that stay free at a figure's edge
MEASURED_AT = 200  # dots an inch
WIDENINGS = 4


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Inches of one line in points of `size`."""
    font = FontProperties(size=size, weight=weight)
    width, _, _ = RendererAgg(1, 1, MEASURED_AT).get_text_width_height_descent(text, font, ismath=False)
    return width / MEASURED_AT


def label_room(labels: Iterable[str], size: float | None = None, weight: str = "normal") -> float:
    """Inches that the longest of the names at an axis needs, with the margin on its outer side."""
    points = size or float(matplotlib.rcParams["ytick.labelsize"])
    return max((text_width(label, points, weight) for label in labels), default=0.0) + MARGIN + 0.1


def wrapped(text: str, room: float, size: float, weight: str = "normal") -> list[str]:
    """Lines no wider than `room` inches; a word that is wider has a line of its own."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size, weight) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def renderer_of(figure: Figure) -> RendererAgg:
    canvas = figure.canvas if isinstance(figure.canvas, FigureCanvasAgg) else FigureCanvasAgg(figure)
    return canvas.get_renderer()


def hold_texts(ax: Axes, texts: Sequence[Annotation]) -> None:
    """Widen the axis of values until the texts beside its bars stand inside the frame, clear of the names."""
    renderer = renderer_of(ax.get_figure(root=True))  # type: ignore[arg-type]
    for _ in range(WIDENINGS):  # a wider axis moves the bars' ends, and the texts with them
        boxes = [text.get_window_extent(renderer) for text in texts]
        frame = ax.get_window_extent(renderer)
        left = max([frame.x0 + 3 - box.x0 for box in boxes], default=0)
        right = max([box.x1 - frame.x1 + 3 for box in boxes], default=0)
        if left <= 0 and right <= 0:
            return
        low, high = ax.get_xlim()
        unit = (high - low) / max(frame.width - max(left, 0) - max(right, 0), 0.3 * frame.width)
        ax.set_xlim(low - max(left, 0) * unit, high + max(right, 0) * unit)
