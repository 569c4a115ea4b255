"""The plots of a results folder as figures of its document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.report.document import Figure, Part, Section, unfolded
from harness.report.page import svg_source
from harness.report.plots import alt_text, draw_all, place


def folder_figures(folder: Path) -> list[Figure]:
    """Every plot that the folder has data for, drawn into plots/, with its alternative text and place."""
    paths = [path for path in draw_all(folder) if path.suffix == ".svg"]
    return [
        Figure(path.stem, alt_text(path.stem), svg_source(path.read_bytes()), place=place(path.stem))
        for path in paths
    ]


def placed(figures: Sequence[Figure], *places: str) -> tuple[Figure, ...]:
    """Those whose place is one of `places`."""
    return tuple(figure for figure in figures if figure.place in places)


def other_figures(figures: Sequence[Figure], shown: Sequence[Part]) -> list[Section]:
    """A section of those that stand nowhere in the parts that are shown."""
    names = {part.name for part in unfolded(shown) if isinstance(part, Figure)}
    others = tuple(figure for figure in figures if figure.name not in names)
    return [Section("figures", "Figures", "Other figures", others, "")] if others else []
