"""Plots of a results folder: one plot one file, each a function from results to named figures.

To add a plot: write a module with `figures(results) -> dict[str, Figure]` (empty where the data is
absent) and list it in PLOTS.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.record.run import ResultsFolder
from harness.report.plots import (
    capability,
    learning_curve,
    ranking_error,
    reward_histograms,
    rule_contributions,
    rule_effects,
    tradeoff,
    training_curves,
)
from harness.report.plots.style import DPI, RC

PLOTS = (
    tradeoff,
    ranking_error,
    learning_curve,
    rule_effects,
    reward_histograms,
    training_curves,
    capability,
    rule_contributions,
)


def draw_all(results: Path) -> list[Path]:
    """Draw every plot that the folder has data for into `plots/`, as PNG and SVG; the paths written.

    The same results give the same bytes. Raises InputError for bad files and for a disk that refuses.
    """
    folder = ResultsFolder(results)
    return [path for name, figure in draw_figures(folder) for path in _save(folder, name, figure)]


def draw_figures(folder: ResultsFolder) -> Iterator[tuple[str, Figure]]:
    """Each plot by name. Figures are made and must be used inside this iterator's style."""
    for plot in PLOTS:
        with matplotlib.style.context(["default", RC]):
            yield from plot.figures(folder).items()


def drawn_files(figure: Figure) -> Iterator[tuple[str, bytes]]:
    """A figure as PNG and SVG: (kind, content). The same figure gives the same bytes."""
    FigureCanvasAgg(figure)
    # Neither the date nor the library's version: a plot's bytes tell of its data alone.
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        content = io.BytesIO()
        figure.savefig(content, format=kind, dpi=DPI, metadata=metadata)
        yield kind, content.getvalue()


def _save(folder: ResultsFolder, name: str, figure: Figure) -> Iterator[Path]:
    for kind, content in drawn_files(figure):
        yield folder.write(f"plots/{name}.{kind}", content)
