"""`rbrbench compare FOLDER FOLDER ... [key=value ...]`: finished results side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.commands import wrong_usage

SUMMARY = """\
  compare FOLDER FOLDER ...
                    finished runs, sweeps and evaluations in one table, paired by seed and by prompt"""
USAGE = """\
usage: rbrbench compare results/A results/B ... [key=value ...]

Draws any finished runs, sweeps and evaluations together: where each lands, the same method in two results paired by
seed, and prompt by prompt where both kept the verdict of every response. Methods are named METHOD (RESULTS). Writes
metrics.csv, comparisons.csv, report.html and summary.md to results/NAME. Exit codes: 0 done, 2 bad input."""
KEYS = "harness.keys.side_by_side:CompareConfig"


def main(arguments: Sequence[str]) -> int:
    places = [argument for argument in arguments if "=" not in argument or Path(argument).is_dir()]
    if not places:
        return wrong_usage("compare")
    from harness.evaluate.side_by_side import compare_results
    from harness.keys.compose import compose_command
    from harness.keys.side_by_side import CompareConfig
    from harness.report.of_comparison import write_comparison_report
    from harness.report.terminal import show
    from harness.runtime.console import Terminal

    keys = [argument for argument in arguments if argument not in places]
    folder = compare_results(places, compose_command("compare", CompareConfig, keys), ["compare", *arguments])
    document, page = write_comparison_report(folder)
    show(document, Terminal())
    print(f"Report: {page}")
    return 0
