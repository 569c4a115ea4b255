"""Plots of a results folder: one plot one file, each a function from results to named figures.

To add a plot: write a module with `figures(results) -> dict[str, Figure]` (empty where the data is absent) and
`ALT`, {name of the figure: its alternative text}; `PLACE` names the section of a page that shows it, else it stands
among the other figures. It is drawn, and shown, without being named anywhere else. One's own, MODULE:ATTRIBUTE of
something with these, is drawn inside `with own_plots(KINDS):`.
"""

from __future__ import annotations

import importlib
import io
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from evals.values.errors import InputError
from evals.values.kinds import find_kind
from harness.findings.wording import distinct_labels
from harness.record.run import ResultsFolder
from harness.report.plots.spots import ToldPlace, spots_of
from harness.report.plots.style import DPI, RC
from harness.report.plots.ticks import clear_ticks

# The order in which they are drawn; every other plot of this folder follows by its name.
FIRST = (
    *("tradeoff", "ranking_error", "reward_histograms", "rule_effects", "learning_curve"),
    *("training_curves", "capability", "rule_contributions"),
)


class Plot(Protocol):
    """What draws: a module of this folder, or anything from outside."""

    ALT: Mapping[str, str]

    def figures(self, results: ResultsFolder) -> Mapping[str, Figure]: ...


def _plots() -> tuple[Plot, ...]:
    """The modules of this folder that draw from a results folder."""
    found = sorted(module.name for module in pkgutil.iter_modules(__path__))
    names = (*FIRST, *(name for name in found if name not in FIRST))
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names)
    return tuple(module for module in modules if hasattr(module, "figures"))  # type: ignore[misc]


PLOTS = _plots()
_OWN: ContextVar[tuple[Plot, ...]] = ContextVar("own plots", default=())


@contextmanager
def own_plots(kinds: Sequence[str]) -> Iterator[None]:
    """Inside, plots from outside are drawn after all others. Raises InputError for what is no plot."""
    token = _OWN.set(tuple(map(_own_plot, kinds)))
    try:
        yield
    finally:
        _OWN.reset(token)


def _own_plot(kind: str) -> Plot:
    plot: Plot = find_kind("plot", kind, {}, "plots")
    if not (callable(getattr(plot, "figures", None)) and isinstance(getattr(plot, "ALT", None), Mapping)):
        fix = "name what has `figures(results)` and `ALT`, {figure: its alternative text}"
        raise InputError(f"{kind!r} is no plot", field="plots", fix=fix)
    if taken := sorted(plot.ALT.keys() & {name for ours in PLOTS for name in ours.ALT}):
        raise InputError(f"{kind!r} draws {taken[0]!r}, as another plot does", field="plots", fix="rename it")
    return plot


def alt_text(figure: str) -> str:
    """What a figure shows, for those who do not see it; `NAME-part` is one of several NAMEs."""
    return _plot_of(figure).ALT[figure.partition("-")[0]]


def place(figure: str) -> str:
    """The section of a page that shows it; "" where its plot names none."""
    return getattr(_plot_of(figure), "PLACE", "")


def _plot_of(figure: str) -> Plot:
    """Raises InputError for a figure that its plot has no words for: only one's own can lack them."""
    for plot in (*PLOTS, *_OWN.get()):
        if figure.partition("-")[0] in plot.ALT:
            return plot
    raise InputError(f"figure {figure!r} has no alternative text", field="plots", fix="add it to ALT")


@dataclass(frozen=True)
class Drawn:
    """A plot that was written: its name, the PNG's and SVG's paths, and what is told of its places."""

    name: str
    paths: tuple[Path, ...]
    spots: tuple[ToldPlace, ...]


@distinct_labels()
def draw_all(results: Path) -> list[Drawn]:
    """Draw every plot that the folder has data for into `plots/`, as PNG and SVG.

    The same results give the same bytes. Raises InputError for bad files and for a disk that refuses.
    """
    folder = ResultsFolder(results)
    return [
        Drawn(name, tuple(_save(folder, name, figure)), spots_of(figure))
        for name, figure in draw_figures(folder)
    ]


def draw_figures(folder: ResultsFolder) -> Iterator[tuple[str, Figure]]:
    """Each plot by name. Figures are made and must be used inside this iterator's style."""
    for plot in (*PLOTS, *_OWN.get()):
        with matplotlib.style.context(["default", RC]):
            for name, figure in plot.figures(folder).items():
                clear_ticks(figure)
                yield name, figure


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
