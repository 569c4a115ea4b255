"""A grader's numbers as the cells of a table."""

from __future__ import annotations

import math

from harness.record.run import JsonRow, number
from harness.report.document import NOTHING, Cell


def metric_cell(row: JsonRow, metric: str, percent: bool = True) -> Cell:
    value, low, high = (number(row, f"{metric}{end}") for end in ("", "_ci_low", "_ci_high"))
    show = share_text if percent else figure_text
    return Cell(show(value), interval=f"{show(low)} to {show(high)}" if math.isfinite(low) else "")


def share_text(value: float) -> str:
    return f"{100 * value:.1f}" if math.isfinite(value) else NOTHING


def figure_text(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else NOTHING
