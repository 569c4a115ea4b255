"""`rbrbench fit`: the rule-based reward's weights on labelled completions, and what the reward is worth."""

from __future__ import annotations

from collections.abc import Sequence

SUMMARY = """\
  fit               fit the reward's weights to labelled completions, judge the reward on held-out prompts
                      rbrbench fit on=FILE rulebook=FILE grader.kind=recorded grader.path=GRADES"""
USAGE = """\
usage: rbrbench fit on=FILE rulebook=FILE [grader.kind=KIND grader.path=PATH] [reward_model.path=PATH] [key=value ...]

Fits one weight a rule and response type, to the optimum. Writes weights.json, fit.html, summary.md, rules.csv,
ablations.csv, learning_curve.csv, worst_pairs.jsonl and plots to results/NAME. Graders: oracle (the labels of
the completions themselves; with grader.path= the sandbox's world file), recorded (a file of grades),
language_model, encoder (a folder or hub id), server (server.url= and server.model=). Exit codes: 0 done,
2 bad input, 3 more than max_unscored unscored; grades are kept, and the same command goes on from there."""
KEYS = "harness.keys.fit:FitConfig"


def main(arguments: Sequence[str]) -> int:
    from harness.fit.engine import run_fit
    from harness.keys.compose import compose_command
    from harness.keys.fit import FitConfig
    from harness.report.of_fit import write_fit_report
    from harness.report.terminal import show
    from harness.runtime.console import Console, Terminal

    console = Console()
    folder = run_fit(compose_command("fit", FitConfig, arguments), console, arguments)
    with console.stage("plots and report", total=None, unit="files"):
        document, page = write_fit_report(folder)
    show(document, Terminal())
    console.report(page)
    return 0
