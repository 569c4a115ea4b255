"""`rbrbench report results/NAME`: draw again from what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.commands import wrong_usage

SUMMARY = "  report FOLDER     redraw page, summary and plots of any command's results from what is stored"


def usage() -> str:
    return "usage: rbrbench report results/NAME   redraws the page, summary.md and plots"


def main(arguments: Sequence[str]) -> int:
    from harness.report.redraw import redraw

    if len(arguments) != 1:
        return wrong_usage("report")
    print(f"Report: {redraw(Path(arguments[0]))}")
    return 0
