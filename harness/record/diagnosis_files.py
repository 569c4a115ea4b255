"""The files of a diagnosis, as `rbrbench fit` and a run write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from evals.values.conversation import Response, write_jsonl
from evals.values.csv_rows import write_csv
from harness.record.reward_rows import ablation_rows, curve_rows, rule_rows, worst_rows
from trainers.reward.diagnosis import Diagnosis

TABLES = ("rules.csv", "learning_curve.csv", "ablations.csv")
WORST = "worst_pairs.jsonl"


def write_diagnosis(
    folder: Path,
    diagnoses: Sequence[Diagnosis],
    seed: int,
    responses: Mapping[str, Sequence[Response]],
) -> None:
    """TABLES, and WORST with the texts of those `responses` that are given."""
    made = rule_rows(diagnoses, seed), curve_rows(diagnoses, seed), ablation_rows(diagnoses, seed)
    for name, rows in zip(TABLES, made, strict=True):
        write_csv(folder / name, rows)
    write_jsonl(folder / WORST, ({"seed": seed, **row} for row in worst_rows(diagnoses, responses)))
