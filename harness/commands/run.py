"""`rbrbench run [-m] [key=value ...]`: the main job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

SUMMARY = """\
  run [-m]          the main job: train RBR-PPO, Human-PPO and Helpful-PPO, measure them, write the report
                      rbrbench run experiment=demo            two cores, minutes
                      rbrbench run -m seed=0,1,2              a sweep, one comparison over its seeds
                      rbrbench run experiment=real_cpu data.root=FOLDER"""
SWEEP = ("-m", "--multirun")


def usage() -> str:
    from harness.keys.help import keys_help

    return keys_help()


def main(arguments: Sequence[str]) -> int:
    run_and_report([a for a in arguments if a not in SWEEP], sweep=any(a in SWEEP for a in arguments))
    return 0


def run_and_report(overrides: Sequence[str], *, sweep: bool = False) -> Path:
    """Run, and draw the report where anything was computed since the last one; returns its path."""
    from harness.pipeline.run import STAMP, run
    from harness.report import write_report
    from harness.runtime.console import Console
    from harness.storage.disk import writing

    console = Console()
    ran = run(overrides, sweep=sweep, console=console)
    report = ran.folder / "report.html"
    if not ran.fresh:
        with console.stage("plots and report", total=None, unit="files"):
            report = write_report(ran.folder)
        with writing(ran.folder):
            (ran.folder / STAMP).write_text(ran.made_of)
    console.report(report)
    return report
