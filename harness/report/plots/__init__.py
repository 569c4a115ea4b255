"""Plots of a results folder: one plot one file, each a function from results to named figures.

To add a plot: write a module with `figures(results) -> dict[str, Figure]` (empty where the data is absent) and
`ALT`, {name of the figure: its alternative text}; `PLACE` names the section of a page that shows it, else it stands
among the other figures. It is drawn, and shown, without being named anywhere else.
"""

from __future__ import annotations

import importlib
import io
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.record.run import ResultsFolder
from harness.report.plots.style import DPI, RC

# The order in which they are drawn; every other plot of this folder follows by its name.
FIRST = (
    *("tradeoff", "ranking_error", "reward_histograms", "rule_effects", "learning_curve"),
    *("training_curves", "capability", "rule_contributions"),
)


def _plots() -> tuple[ModuleType, ...]:
    """The modules of this folder that draw from a results folder."""
    found = sorted(module.name for module in pkgutil.iter_modules(__path__))
    names = (*FIRST, *(name for name in found if name not in FIRST))
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names)
    return tuple(module for module in modules if hasattr(module, "figures"))


PLOTS = _plots()
ALT_TEXTS: dict[str, str] = {name: text for plot in PLOTS for name, text in plot.ALT.items()}
PLACES: dict[str, str] = {name: getattr(plot, "PLACE", "") for plot in PLOTS for name in plot.ALT}


def alt_text(figure: str) -> str:
    """What a figure shows, for those who do not see it; `NAME-part` is one of several NAMEs."""
    return ALT_TEXTS[figure.partition("-")[0]]


def place(figure: str) -> str:
    """The section of a page that shows it; "" where its plot names none."""
    return PLACES[figure.partition("-")[0]]


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
