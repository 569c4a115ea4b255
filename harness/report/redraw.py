"""The page of any record, drawn from its folder alone: `rbrbench report FOLDER`."""

from __future__ import annotations

from pathlib import Path

from evals.values.errors import InputError
from harness.record.manifest import Kind, claimed_by, kind_of, read_manifest


def redraw(folder: Path) -> Path:
    """Draw again what the command drew that made the folder; the page's path.

    Raises InputError for a folder that is no finished record.
    """
    match kind_of(folder):
        case Kind.RUN:
            from harness.report.of_run import write_report

            return write_report(folder)
        case Kind.EVALUATION:
            from harness.report.of_evaluation import write_evaluation_report

            return write_evaluation_report(folder)[1]
        case Kind.FIT:
            from harness.report.of_fit import write_fit_report

            return write_fit_report(folder)[1]
        case Kind.GOLD:
            from harness.report.of_gold import write_gold_report

            return write_gold_report(folder)[1]
        case Kind.XSTEST:
            from harness.report.of_xstest import write_xstest_report

            return write_xstest_report(folder)[1]
        case Kind.GATE:
            from harness.report.of_gate import write_gate_report

            return write_gate_report(folder)[1]
        case Kind.DATA:
            from harness.report.of_data import write_data_report

            return write_data_report(folder)[1]
        case Kind.CEILING:
            from harness.report.of_ceiling import write_ceiling_report

            return write_ceiling_report(folder)[1]
        case Kind.RANK:
            from harness.report.of_rank import write_rank_report

            return write_rank_report(folder)[1]
        case Kind.COMPARISON:
            from harness.report.of_comparison import write_comparison_report

            return write_comparison_report(folder)[1]
    raise _refusal(folder)


def _refusal(folder: Path) -> InputError:
    """Why there is nothing to draw."""
    claimed = claimed_by(read_manifest(folder))
    if claimed is not None:  # unfinished, or of before records had all that a page shows
        return InputError(
            f"`rbrbench {claimed.command}` made this folder", path=folder, fix="run that command again"
        )
    known = ", ".join(kind.command for kind in Kind)
    problem = f"this is no folder that a command finished (none of {known})"
    return InputError(problem, path=folder, fix="name one: results/NAME")
