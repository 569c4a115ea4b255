"""`rbrbench report results/NAME`: draw again from what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evals.values.errors import InputError
from harness.commands import wrong_usage

SUMMARY = "  report FOLDER     redraw plots and report of a run or an evaluation from what is stored"
REPEATED = ("gold", "fit", "regress", "xstest")  # they draw what they do not store


def usage() -> str:
    return "usage: rbrbench report results/NAME   redraws plots, report.html and summary.md"


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        return wrong_usage("report")
    print(f"Report: {redraw(Path(arguments[0]))}")
    return 0


def redraw(folder: Path) -> Path:
    """The page, drawn anew. Raises InputError for a folder whose pages only the command that made it writes."""
    from harness.record.finished_run import is_run
    from harness.report import write_report
    from harness.report.evaluation import is_evaluation, write_evaluation_report
    from harness.storage.store import made_by

    command = next((name for name in REPEATED if made_by(folder, name)), None)
    if command is not None:
        raise InputError(f"`rbrbench {command}` made this folder", path=folder, fix="run that command again")
    if not (folder / "metrics.csv").is_file():
        raise InputError("no metrics.csv here", path=folder, fix="name a results folder, results/NAME")
    if is_evaluation(folder):
        return write_evaluation_report(folder)
    if is_run(folder):
        return write_report(folder)
    raise InputError(
        "neither a run nor an evaluation was finished here", path=folder, fix="run its command again"
    )
