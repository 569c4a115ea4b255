"""Places of a figure that a page explains to who points at them, each with the model whose samples it leads to.

A page loads figures as pictures, which know nothing of their values; so the places are kept beside them.
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

from matplotlib.axes import Axes
from matplotlib.figure import Figure


class ToldPlace(NamedTuple):
    """`left` and `top` are percent of the figure's width and height."""

    left: float
    top: float
    words: str
    model: str  # as a page calls it; "" where no one model is meant


_told: WeakKeyDictionary[Figure, list[tuple[Axes, float, float, str, str]]] = WeakKeyDictionary()


def tell(ax: Axes, x: float, y: float, words: str, model: str = "") -> None:
    """Say `words` of a place in the data of `ax`."""
    _told.setdefault(ax.get_figure(root=True), []).append((ax, x, y, words, model))  # type: ignore[arg-type]


def spots_of(figure: Figure) -> tuple[ToldPlace, ...]:
    """What was told of a figure, where its final layout has it; what lies outside its axes is left out."""
    found = []
    for ax, x, y, words, model in _told.get(figure, ()):
        place = ax.transData.transform((x, y))
        if ax.get_window_extent().padded(1).contains(*place):
            left, up = figure.transFigure.inverted().transform(place)
            found.append(
                ToldPlace(round(100 * float(left), 2), round(100 * (1 - float(up)), 2), words, model)
            )
    return tuple(found)
