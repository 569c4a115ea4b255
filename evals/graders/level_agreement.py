"""A grader against people's labels of levels: how far is it off, and does it agree beyond chance?

- `mean_absolute_error` of the expected score, beside `constant_error`: that of the one score that errs least for all.
- `kappa` of the nearest level: Cohen's, weighted by the squared distance of scores (Cohen 1968, Psychological Bulletin
  70), which for evenly spaced levels is the quadratic weighted kappa.
- `exact`: the share of responses whose nearest level is the labelled one.

On scored and labelled pairs; NaN where a figure is not defined. Intervals are 95 %, from a bootstrap over prompts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evals.graders.calibration import gold_labels, ratio
from evals.rules.propositions import Proposition
from evals.statistics import resample_counts
from evals.statistics.resampling import percentiles
from evals.values.conversation import LabelledResponse
from evals.values.grades import Grades
from evals.values.levels import scores_of

METRICS = ("mean_absolute_error", "kappa", "exact")
LEVEL_COLUMNS = (
    *("grader", "proposition", "levels", "n", "n_unscored", "constant_error"),
    *(f"{metric}{end}" for metric in METRICS for end in ("", "_ci_low", "_ci_high")),
)


def level_agreement(
    grader: str,
    grades: Grades,
    labelled: Sequence[LabelledResponse],
    propositions: Sequence[Proposition],
    draws: int = 1000,
    seed: int = 0,
) -> list[dict[str, object]]:
    """One row, with LEVEL_COLUMNS, a proposition that has levels."""
    truth = gold_labels(labelled, grades.propositions)
    _, prompts = np.unique([item.response.prompt.id for item in labelled], return_inverse=True)
    counts = resample_counts([0] * (prompts.max(initial=-1) + 1), draws, np.random.default_rng(seed))
    rows = []
    for proposition in (p for p in propositions if p.levels):
        column = grades.propositions.index(proposition.name)
        known = ~np.isnan(truth[:, column])
        scored = known & ~np.isnan(grades.probability[:, column])
        grade, label = grades.probability[scored, column], truth[scored, column]
        row: dict[str, object] = {"grader": grader, "proposition": proposition.name}
        row |= {"levels": scores_of(proposition.levels), "n": len(label)}
        row |= {"n_unscored": int(known.sum() - scored.sum())}
        rows.append(row | _figures(grade, label, proposition, counts[:, prompts[scored]]))
    return rows


def _figures(
    grade: np.ndarray, label: np.ndarray, proposition: Proposition, counts: np.ndarray
) -> dict[str, object]:
    """`constant_error`, then METRICS with their intervals; `counts` [draws, responses] are the bootstrap's."""
    point = agreement(grade, label, proposition, np.ones((1, len(label))))
    sample = agreement(grade, label, proposition, counts)
    found: dict[str, object] = {}
    found["constant_error"] = float(np.abs(label - np.median(label)).mean()) if len(label) else np.nan
    for metric in METRICS:
        low, high = percentiles(sample[metric])
        found |= {metric: float(point[metric][0]), f"{metric}_ci_low": low, f"{metric}_ci_high": high}
    return found


def agreement(
    grade: np.ndarray, label: np.ndarray, proposition: Proposition, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """METRICS [draws] of grades and labelled scores [responses], weights [draws, responses]."""
    nearest = np.array([float(proposition.label_of(g)) for g in grade])

    def mean(values: np.ndarray) -> np.ndarray:
        return ratio(weights @ values, weights.sum(axis=1))

    by_chance = mean(nearest**2) + mean(label**2) - 2 * mean(nearest) * mean(label)
    apart = ratio(mean((nearest - label) ** 2), np.where(by_chance > 1e-12, by_chance, 0.0))
    return {
        "mean_absolute_error": mean(np.abs(grade - label)),
        "kappa": 1 - apart,
        "exact": mean((nearest == label).astype(float)),
    }
