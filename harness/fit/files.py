"""results/NAME of `rbrbench fit`: weights and tables, for report/of_fit.py to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from evals.values.conversation import Response, write_jsonl
from evals.values.metrics_table import write_metrics
from harness.keys.fit import FitConfig
from harness.record.manifest import Kind, recording
from harness.record.reward_rows import error_rows, reward_rows, write_diagnosis
from harness.storage.digest import canonical
from trainers.reward.diagnosis import Diagnosis
from trainers.reward.ranking import rewards
from trainers.reward.reward_weights import RewardWeights, save_weights


def write_record(
    folder: Path,
    diagnoses: Sequence[Diagnosis],
    responses: Mapping[str, Sequence[Response]],
    weights: RewardWeights,
    config: FitConfig,
    notes: Sequence[str],
    command: Sequence[str],
) -> None:
    """`responses` are the held-out ones by response type. The same results give the same bytes."""
    with recording(folder, Kind.FIT, config.name, command, notes) as new:
        save_weights(weights, new / "weights.json")
        (new / "config.yaml").write_text(
            yaml.safe_dump(canonical(asdict(config)), sort_keys=False), encoding="utf-8"
        )
        write_metrics(
            new / "metrics.csv",
            [row for d in diagnoses for row in error_rows(d.held, d.errors, config.seed)],
        )
        write_diagnosis(new, diagnoses, config.seed, responses)
        rows = (row for d in diagnoses for row in reward_rows(d.held, _shown(d, weights)))
        write_jsonl(new / "rewards.jsonl", ({"seed": config.seed, **row} for row in rows))


def _shown(d: Diagnosis, weights: RewardWeights) -> Mapping[str, Any]:
    return {name: total for name, total in rewards(d.held, weights).items() if name in d.errors}
