"""The plots of a results folder as figures of its document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.report.document import Figure, Part, Section, Spot, unfolded
from harness.report.page import svg_source
from harness.report.plots import alt_text, draw_all, place


def folder_figures(folder: Path, called: Callable[[str], str] = str) -> list[Figure]:
    """Every plot that the folder has data for, drawn into plots/, with its words and place; models `called` so."""
    return [
        Figure(
            plot.name,
            alt_text(plot.name),
            svg_source(next(path for path in plot.paths if path.suffix == ".svg").read_bytes()),
            place=place(plot.name),
            spots=tuple(Spot(s.left, s.top, s.words, called(s.model) if s.model else "") for s in plot.spots),
        )
        for plot in draw_all(folder)
    ]


def placed(figures: Sequence[Figure], *places: str) -> tuple[Figure, ...]:
    """Those whose place is one of `places`."""
    return tuple(figure for figure in figures if figure.place in places)


def other_figures(figures: Sequence[Figure], shown: Sequence[Part]) -> list[Section]:
    """A section of those that stand nowhere in the parts that are shown."""
    names = {part.name for part in unfolded(shown) if isinstance(part, Figure)}
    others = tuple(figure for figure in figures if figure.name not in names)
    return [Section("figures", "Figures", "Other figures", others, "")] if others else []
