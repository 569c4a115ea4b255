"""A diagnosis as the rows of its files, as `rbrbench fit` and a run write them; NaN is an empty cell or null, never 0.

- metrics.csv          ranking error of rm, rm+rbr and rbr, suites synthetic/TYPE
- rules.csv            a row a feature: weight, gap, contribution, share of the variance, cost of leaving it out
- learning_curve.csv   a row a number of fitting prompts and order of the prompts
- ablations.csv        a row a variant of the fit
- worst_pairs.jsonl    a row a wrongly ranked pair, what decides it first
- rewards.jsonl        a row a held-out completion
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evals.values.conversation import Response, messages_as_json
from evals.values.csv_rows import write_csv
from evals.values.jsonl_rows import write_jsonl
from evals.values.metrics_table import MetricRow
from trainers.reward.diagnosis import REWARD_MODEL, Diagnosis
from trainers.reward.examples import FitExamples
from trainers.reward.ranking import RankingError

Row = dict[str, Any]
TABLES = ("rules.csv", "learning_curve.csv", "ablations.csv")
WORST = "worst_pairs.jsonl"


def error_rows(examples: FitExamples, errors: Mapping[str, RankingError], seed: int) -> list[MetricRow]:
    suite = f"synthetic/{examples.response_type.value}"
    return [
        MetricRow(
            name, seed, "", suite, "ranking_error", "", e.value, e.stderr, e.low, e.high, e.pairs, e.unscored
        )
        for name, e in errors.items()
    ]


def reward_rows(examples: FitExamples, totals: Mapping[str, np.ndarray]) -> list[Row]:
    return [
        {
            "prompt_id": examples.prompts[i],
            "response_type": examples.response_type.value,
            "completion_class": examples.classes[i],
            "rank": int(examples.rank[i]),
            **{name: _number(values[i]) for name, values in totals.items()},
        }
        for i in range(len(examples))
    ]


def rule_rows(diagnoses: Sequence[Diagnosis], seed: int) -> Iterator[Row]:
    """The reward model's row has a contribution and a share of the variance only."""
    for d in diagnoses:
        start = {"seed": seed, "response_type": d.response_type.value}
        if np.isfinite(d.variance[REWARD_MODEL]) and d.variance[REWARD_MODEL] != 0.0:
            blank = dict.fromkeys(("weight", "gap", "contribution"))
            share = {"variance_share": d.variance[REWARD_MODEL]}
            yield start | {"feature": REWARD_MODEL} | blank | share | dict.fromkeys(COSTS)
        for effect in d.effects:
            yield start | {
                "feature": effect.name,
                "weight": _number(effect.weight),
                "gap": _number(effect.gap),
                "contribution": _number(effect.contribution),
                "variance_share": _number(d.variance[effect.name]),
                "error": _number(d.error.value),
                "error_without": _number(effect.error_without),
                "error_refitted": _number(effect.error_refitted),
            }


COSTS = ("error", "error_without", "error_refitted")


def curve_rows(diagnoses: Sequence[Diagnosis], seed: int) -> Iterator[Row]:
    for d in diagnoses:
        for point in d.curve:
            for order, error in enumerate(point.errors):
                yield {
                    "seed": seed,
                    "response_type": d.response_type.value,
                    "prompts": point.prompts,
                    "order": order,
                    "error": _number(error),
                }


def ablation_rows(diagnoses: Sequence[Diagnosis], seed: int) -> Iterator[Row]:
    for d in diagnoses:
        for a in d.ablations:
            figures = {
                "error": a.error.value,
                "ci_low": a.error.low,
                "ci_high": a.error.high,
                "change": a.change.value,
                "change_low": a.change.low,
                "change_high": a.change.high,
            }
            yield (
                {"seed": seed, "response_type": d.response_type.value, "ablation": a.name}
                | {name: _number(value) for name, value in figures.items()}
                | {"prompts": a.error.prompts, "pairs": a.error.pairs, "unscored": a.error.unscored}
            )


def worst_rows(diagnoses: Sequence[Diagnosis], responses: Mapping[str, Sequence[Response]]) -> Iterator[Row]:
    """`responses` has the held-out ones by response type, row by row; without a type's, no texts."""
    for d in diagnoses:
        mine = responses.get(d.response_type.value)
        for pair in d.worst:
            row: Row = {
                "response_type": d.response_type.value,
                "prompt_id": pair.prompt,
                "gap": pair.gap,
                "other_class": d.held.classes[pair.other],
                "deciding": dict(pair.deciding),
            }
            if mine is not None:
                ideal, other = mine[pair.ideal], mine[pair.other]
                row |= {"prompt": messages_as_json(ideal.prompt.messages)}
                row |= {"ideal": ideal.text, "other": other.text}
            yield row


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


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
