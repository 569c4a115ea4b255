"""results/NAME of a ranking, for report/of_rank.py to draw; prompts stand in it by id alone.

rank.csv        a row a reward, term and subset; of the mean over subsets the subset is empty
worst.csv       the prompts that a reward ranks wrong by most
rewards.jsonl   every prompt's rewards by reward: chosen, then rejected
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from evals.statistics.intervals import NAN, Estimate
from evals.values.csv_rows import write_csv
from evals.values.jsonl_rows import write_jsonl
from harness.rank.engine import Misranked, RankReport, RankRow
from harness.record.manifest import Kind, recording
from harness.record.run import spending_part

TEXTS = ("reward", "term", "subset")
NUMBERS = (
    *("score", "stderr", "ci_low", "ci_high", "n", "pairs", "chance", "unscored"),
    *("against", "against_ci_low", "against_ci_high"),
)


def write_rank(report: RankReport, command: list[str]) -> Path:
    """The folder, whose path it returns. The same results give the same bytes. Raises InputError where another
    command's results lie.
    """
    config = report.config
    folder = Path(config.results) / config.name
    about: dict[str, Any] = {
        "rewards": config.rewards,
        "on": config.on,
        "by": config.by,
        "prompts": len(report.sets.sets),
    }
    about |= spending_part(report.spending)
    with recording(folder, Kind.RANK, config.name, command, report.notes, **about) as new:
        write_csv(new / "rank.csv", (_row(row) for row in report.rows), (*TEXTS, *NUMBERS))
        write_csv(new / "worst.csv", map(asdict, report.worst), [f.name for f in fields(Misranked)])
        write_jsonl(new / "rewards.jsonl", _rewards(report))
    return folder


def _row(row: RankRow) -> dict[str, Any]:
    against = row.against or Estimate(NAN, NAN, NAN, NAN, 0)
    score = row.score
    values = (
        *(score.value, score.stderr, score.low, score.high, score.n, row.pairs, row.chance, row.unscored),
        *(against.value, against.low, against.high),
    )
    return {"reward": row.reward, "term": row.term, "subset": row.subset} | dict(
        zip(NUMBERS, values, strict=True)
    )


def _rewards(report: RankReport) -> Iterator[dict[str, Any]]:
    for one, place in zip(report.sets.sets, report.sets.slices, strict=True):
        n = len(one.chosen)
        rewards = {}
        for given, paid in report.paid.items():
            values = [float(v) if np.isfinite(v) else None for v in paid.total[place]]
            rewards[given] = {"chosen": values[:n], "rejected": values[n:]}
        yield {"id": one.prompt.id, "subset": one.subset, "group": one.group, "rewards": rewards}
