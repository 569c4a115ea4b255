"""`rbrbench ceiling reward=A [candidate=B] on=SAMPLES`: what a reward asks for, before training."""

from __future__ import annotations

from collections.abc import Sequence

SUMMARY = """\
  ceiling           what a reward asks for among judged samples of the reference, without training
                      rbrbench ceiling reward=A candidate=B on=SAMPLES"""
USAGE = """\
usage: rbrbench ceiling reward=A [candidate=B] [on=SAMPLES] [key=value ...]

Weights the samples of the reference by exp(reward / beta): the policy that a training with this price of KL climbs to.
Exit codes: 0 done, 2 bad input, 3 the samples are too few, too alike or too often unscored to tell. Writes
ceiling.html, summary.md and ceiling.json to results/NAME."""
KEYS = "harness.keys.ceiling:CeilingConfig"


def main(arguments: Sequence[str]) -> int:
    from harness.ceiling.engine import run_ceiling
    from harness.ceiling.files import write_ceiling
    from harness.keys.ceiling import CeilingConfig
    from harness.keys.compose import compose_command
    from harness.report.of_ceiling import write_ceiling_report
    from harness.report.terminal import show
    from harness.runtime.console import Console, Terminal

    console = Console()
    report = run_ceiling(compose_command("ceiling", CeilingConfig, arguments), console)
    document, page = write_ceiling_report(write_ceiling(report, ["ceiling", *arguments]))
    show(document, Terminal())
    console.report(page)
    return report.code
