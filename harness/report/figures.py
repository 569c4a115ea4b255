"""The plots of a results folder as figures of its document."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.style
from matplotlib.figure import Figure as Plot

from harness.record.run import ResultsFolder
from harness.report.document import Figure
from harness.report.page import svg_source
from harness.report.plots import alt_text, draw_all, drawn_files
from harness.report.plots.style import RC


def folder_figures(folder: Path) -> list[Figure]:
    """Every plot that the folder has data for, drawn into plots/, with its alternative text."""
    paths = [path for path in draw_all(folder) if path.suffix == ".svg"]
    return [Figure(path.stem, alt_text(path.stem), svg_source(path.read_bytes())) for path in paths]


def saved_figure(folder: ResultsFolder, name: str, alt: str, draw: Callable[[], Plot]) -> Figure:
    """One plot, drawn in the plots' style and written to plots/ as PNG and SVG."""
    with matplotlib.style.context(["default", RC]):
        files = dict(drawn_files(draw()))
    for kind, content in files.items():
        folder.write(f"plots/{name}.{kind}", content)
    return Figure(name, alt, svg_source(files["svg"]))
