"""The plots of a results folder as figures of its document."""

from __future__ import annotations

from pathlib import Path

from harness.report.document import Figure
from harness.report.page import svg_source
from harness.report.plots import alt_text, draw_all


def folder_figures(folder: Path) -> list[Figure]:
    """Every plot that the folder has data for, drawn into plots/, with its alternative text."""
    paths = [path for path in draw_all(folder) if path.suffix == ".svg"]
    return [Figure(path.stem, alt_text(path.stem), svg_source(path.read_bytes())) for path in paths]
