"""`rbrbench report results/NAME`: draw again from what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evals.errors import InputError
from harness.commands import wrong_usage

SUMMARY = "  report FOLDER     redraw plots and report of results/NAME from what is stored"


def usage() -> str:
    return "usage: rbrbench report results/NAME   redraws plots, report.html and summary.md"


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        return wrong_usage("report")
    from harness.report import write_report
    from harness.report.evaluation import is_evaluation, write_evaluation_report

    folder = Path(arguments[0])
    if not (folder / "metrics.csv").is_file():
        raise InputError("no metrics.csv here", path=folder, fix="name a results folder, results/NAME")
    write = write_evaluation_report if is_evaluation(folder) else write_report
    print(f"Report: {write(folder)}")
    return 0
