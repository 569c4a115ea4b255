"""`rbrbench rank`: does a reward put the response that people chose first."""

from __future__ import annotations

from collections.abc import Sequence

SUMMARY = """\
  rank              rewards on RewardBench 2, its part on safety, or comparisons in its columns
                      rbrbench rank rewards=[results/RUN,FOLDER] on=FILE subsets=[Safety]"""
USAGE = """\
usage: rbrbench rank rewards=[A,B,...] on=FILE [subsets=[Safety]] ['types=[{of: Safety, type: TYPE}]'] [key=value ...]

A row of the file has a prompt, the chosen response and the rejected ones (columns prompt, chosen, rejected; id,
subset and response_type where known). Counted is how often the chosen one has the highest reward; Ties is scored as
RewardBench 2 scores it. A reward: a description, a fit, a run, recorded rewards, or the folder or hub name of a
one-output classifier. Rules pay where a prompt has a response type: its own, or by types= that of its subset. Writes
rank.html, summary.md, rank.csv, worst.csv and rewards.jsonl to results/NAME. Exit codes: 0 done, 2 bad input, 3 more
than max_unscored unscored; grades are kept, and the same command goes on from there."""
KEYS = "harness.keys.rank:RankConfig"


def main(arguments: Sequence[str]) -> int:
    from harness.keys.compose import compose_command
    from harness.keys.rank import RankConfig
    from harness.rank.engine import run_rank
    from harness.rank.files import write_rank
    from harness.report.of_rank import write_rank_report
    from harness.report.terminal import show
    from harness.runtime.console import Console, Terminal

    console = Console()
    report = run_rank(compose_command("rank", RankConfig, arguments), console)
    document, page = write_rank_report(write_rank(report, ["rank", *arguments]))
    show(document, Terminal())
    console.report(page)
    return 0
