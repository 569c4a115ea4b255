"""The plots of a results folder as figures of its document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.style
from matplotlib.figure import Figure as Plot

from harness.record.run import ResultsFolder
from harness.report.document import Figure, Part, Section, unfolded
from harness.report.page import svg_source
from harness.report.plots import alt_text, draw_all, drawn_files, place
from harness.report.plots.style import RC


def folder_figures(folder: Path) -> list[Figure]:
    """Every plot that the folder has data for, drawn into plots/, with its alternative text and place."""
    paths = [path for path in draw_all(folder) if path.suffix == ".svg"]
    return [
        Figure(path.stem, alt_text(path.stem), svg_source(path.read_bytes()), place=place(path.stem))
        for path in paths
    ]


def saved_figure(folder: ResultsFolder, name: str, alt: str, draw: Callable[[], Plot]) -> Figure:
    """One plot, drawn in the plots' style and written to plots/ as PNG and SVG."""
    with matplotlib.style.context(["default", RC]):
        files = dict(drawn_files(draw()))
    for kind, content in files.items():
        folder.write(f"plots/{name}.{kind}", content)
    return Figure(name, alt, svg_source(files["svg"]))


def placed(figures: Sequence[Figure], *places: str) -> tuple[Figure, ...]:
    """Those whose place is one of `places`."""
    return tuple(figure for figure in figures if figure.place in places)


def other_figures(figures: Sequence[Figure], shown: Sequence[Part]) -> list[Section]:
    """A section of those that stand nowhere in the parts that are shown."""
    names = {part.name for part in unfolded(shown) if isinstance(part, Figure)}
    others = tuple(figure for figure in figures if figure.name not in names)
    return [Section("figures", "Figures", "Other figures", others, "")] if others else []
