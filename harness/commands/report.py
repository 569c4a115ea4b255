"""`rbrbench report results/NAME`: draw again from what is stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from evals.values.errors import InputError
from harness.commands import wrong_usage

SUMMARY = "  report FOLDER     redraw page, summary and plots of any command's results from what is stored"
USAGE = """\
usage: rbrbench report results/NAME [key=value ...]

Redraws the page, summary.md and plots. Of a sweep, also one that runs or was cut short: the comparison of what its
jobs have made, and which are missing."""
KEYS = "harness.keys.report:ReportConfig"


def main(arguments: Sequence[str]) -> int:
    if not arguments:
        return wrong_usage("report")
    from harness.keys.compose import compose_command
    from harness.keys.report import ReportConfig
    from harness.report.exports import find_export, write_exports
    from harness.report.plots import own_plots
    from harness.report.redraw import redraw
    from harness.storage.ownership import PLAN
    from harness.storage.store import MANIFEST

    folder, config = Path(arguments[0]), compose_command("report", ReportConfig, arguments[1:])
    for kind in config.exports:
        find_export(kind)  # before anything is written
    with _joined(folder) as missing:
        for line in missing:
            print(line)
        if (folder / PLAN).is_file() and not (folder / MANIFEST).is_file():
            fix = "wait, or give its command again"
            raise InputError("no job of the sweep has ended", path=folder, fix=fix)
        with own_plots(config.plots):
            print(f"Report: {redraw(folder)}")
    for path in write_exports(folder, config.exports):
        print(f"Export: {path}")
    return 0


@contextmanager
def _joined(folder: Path) -> Iterator[list[str]]:
    """What a sweep lacks, whose record is brought up to what its jobs have made; its command waits meanwhile."""
    from harness.storage.ownership import PLAN

    if not (folder / PLAN).is_file():
        yield []
        return
    from harness.pipeline.run import publishing
    from harness.pipeline.sweep import join

    with publishing(folder):
        yield join(folder)
