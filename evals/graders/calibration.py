"""A grader against labels: is it right, per proposition and in all, and is its probability honest?

Everything is computed on scored and labelled pairs; unscored ones are counted beside. What is not
defined (the true positive rate of a proposition that never holds) is NaN, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from evals.rules.propositions import Proposition
from evals.statistics import Interval, Spread, clustered_interval, resample_counts
from evals.values.conversation import LabelledResponse
from evals.values.errors import InputError
from evals.values.grades import Grades

MEAN = "(mean)"  # the row of means over propositions
METRICS = ("accuracy", "balanced_accuracy", "tpr", "tnr", "auroc", "brier")
SHARES = {
    "accuracy": "any",
    "tpr": "true",
    "tnr": "false",
}  # share metrics, and the labels they are shares of
COLUMNS = (
    *("grader", "proposition", "n", "n_positive", "n_unscored", "threshold"),
    *("accuracy", "balanced_accuracy", "tpr", "tnr", "majority", "auroc", "brier"),
    *(f"{metric}_ci_{end}" for metric in METRICS for end in ("low", "high")),
)
Values = dict[str, np.ndarray]


def gold_labels(labelled: Sequence[LabelledResponse], propositions: Sequence[str]) -> np.ndarray:
    """Labels [responses, propositions]: 1, 0, a level's score, or NaN where a response has none."""
    rows = [[item.propositions.get(name, np.nan) for name in propositions] for item in labelled]
    return np.array(rows, dtype=np.float64).reshape(len(labelled), len(propositions))


def cuts_of(propositions: Iterable[Proposition]) -> dict[str, float]:
    """The thresholds that nobody tuned: half, of levels the cut between those that hold and the others."""
    return {p.name: p.cut for p in propositions}


def prompt_folds(ids: Sequence[str], folds: int, seed: int) -> np.ndarray:
    """A fold for each response [responses]; responses to one prompt share theirs."""
    names, prompt = np.unique(list(ids), return_inverse=True)
    return (np.random.default_rng(seed).permutation(len(names)) % folds)[prompt]


def calibrate(
    grader: str,
    grades: Grades,
    labelled: Sequence[LabelledResponse],
    thresholds: Mapping[str, float] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> list[dict[str, object]]:
    """One row per proposition with COLUMNS, then the row of means over the propositions where defined.

    A proposition counts as found at `thresholds` (default 0.5) or above, and is true where its label is above half: a
    level's score may lie between, and the Brier score is then the squared distance of the two scores. Intervals are
    95 %, from a bootstrap over prompts: all responses to a prompt are drawn together. Raises InputError when the
    labels are not those of the graded responses.
    """
    if len(labelled) != len(grades):
        raise InputError(
            f"{len(grades)} graded responses but {len(labelled)} labelled ones",
            fix="grade the labelled responses, in their order",
        )
    thresholds = thresholds or {}
    truth = gold_labels(labelled, grades.propositions)
    _, prompts = np.unique([item.response.prompt.id for item in labelled], return_inverse=True)
    counts = resample_counts([0] * (prompts.max(initial=-1) + 1), draws, np.random.default_rng(seed))
    rows, points, samples = [], [], []
    for column, name in enumerate(grades.propositions):
        threshold = thresholds.get(name, 0.5)
        known = ~np.isnan(truth[:, column])
        scored = known & ~np.isnan(grades.probability[:, column])
        probability, score = grades.probability[scored, column], truth[scored, column]
        label = score > 0.5
        point = measures(probability, label, threshold, np.ones((1, len(label))), score)
        sample = measures(probability, label, threshold, counts[:, prompts[scored]], score)
        row = {"grader": grader, "proposition": name, "n": len(label), "n_positive": int(label.sum())}
        row |= {"n_unscored": int(known.sum() - scored.sum()), "threshold": threshold}
        row |= {"majority": max(label.mean(), 1 - label.mean()) if len(label) else np.nan}
        rows.append(row | _with_intervals(point, sample, _clusters(prompts[scored], label)))
        points.append(point)
        samples.append(sample)
    return [*rows, _mean_row(grader, rows, points, samples)]


def measures(
    probability: np.ndarray,
    label: np.ndarray,
    threshold: float,
    weights: np.ndarray,
    score: np.ndarray | None = None,
) -> Values:
    """METRICS [draws] of probability and label [responses], weights [draws, responses].

    `score` [responses] is what the probability should be, the label where it is not given.
    """
    found = probability >= threshold
    positive, negative = weights @ label, weights @ ~label
    tpr = ratio(weights @ (found & label), positive)
    tnr = ratio(weights @ (~found & ~label), negative)
    total = positive + negative
    return {
        "accuracy": ratio(weights @ (found == label), total),
        "balanced_accuracy": (tpr + tnr) / 2,
        "tpr": tpr,
        "tnr": tnr,
        "auroc": auroc(probability, label, weights),
        "brier": ratio(weights @ (probability - (label if score is None else score)) ** 2, total),
    }


def auroc(probability: np.ndarray, label: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """P(a true one is graded above a false one) [draws], ties counting half; weights [draws, responses]."""
    if not len(label):
        return np.full(len(weights), np.nan)
    order = np.argsort(probability, kind="stable")
    ties = np.flatnonzero(np.diff(probability[order], prepend=-np.inf))
    ordered = weights[:, order]
    positive = np.add.reduceat(ordered * label[order], ties, axis=1)
    negative = np.add.reduceat(ordered * ~label[order], ties, axis=1)
    below = negative.cumsum(axis=1) - negative / 2
    return ratio((positive * below).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def tune_thresholds(
    grades: Grades,
    labelled: Sequence[LabelledResponse],
    metric: str = "balanced_accuracy",
    thresholds: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """For each proposition the threshold with the best `metric`; of equals the one nearest to `thresholds` (0.5).

    To be applied to other responses than these. A proposition with one kind of label only keeps that one.
    """
    truth = gold_labels(labelled, grades.propositions)
    chosen = {}
    for column, name in enumerate(grades.propositions):
        scored = ~np.isnan(truth[:, column]) & ~np.isnan(grades.probability[:, column])
        start = (thresholds or {}).get(name, 0.5)
        label = truth[scored, column] > 0.5
        chosen[name] = _best_threshold(grades.probability[scored, column], label, metric, start)
    return chosen


def calibration_error(curve: Sequence[Mapping[str, float]]) -> float:
    """Expected calibration error: mean distance of the curve from the diagonal, by number of grades."""
    total = sum(point["n"] for point in curve)
    gaps = sum(point["n"] * abs(point["mean_grade"] - point["share_true"]) for point in curve)
    return gaps / total if total else float("nan")


def _best_threshold(probability: np.ndarray, label: np.ndarray, metric: str, start: float) -> float:
    if not label.any() or label.all():
        return start
    levels = np.unique(probability)
    candidates = np.concatenate([[start], (levels[1:] + levels[:-1]) / 2])
    once = np.ones((1, len(label)))
    values = [float(measures(probability, label, t, once)[metric][0]) for t in candidates]
    # Rounded, so that equal counts do not differ in the last bit.
    return float(max(zip(np.round(values, 12), -np.abs(candidates - start), candidates, strict=True))[2])


def _clusters(prompts: np.ndarray, label: np.ndarray) -> dict[str, int]:
    """Number of prompts that have any label, a true one, a false one."""
    return {
        kind: len(np.unique(prompts[chosen]))
        for kind, chosen in (("any", slice(None)), ("true", label), ("false", ~label))
    }


def _with_intervals(point: Values, sample: Values, clusters: Mapping[str, int]) -> dict[str, float]:
    row: dict[str, float] = {}
    for metric in METRICS:
        value = float(point[metric][0])
        low, high = _interval(value, sample[metric], clusters.get(SHARES.get(metric, ""), 0))
        row |= {metric: value, f"{metric}_ci_low": low, f"{metric}_ci_high": high}
    return row


def _interval(value: float, draws: np.ndarray, clusters: int) -> Interval:
    """Percentiles of the draws; for shares an interval that does not collapse at 0 and 1."""
    draws = draws[~np.isnan(draws)]
    if np.isnan(value) or len(draws) < 2:
        return Interval(float("nan"), float("nan"))
    if clusters:
        spread = Spread(float(draws.var(ddof=1)), max(1, clusters - 1))
        return clustered_interval(value, spread, clusters)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(float(low), float(high))


def _mean_row(
    grader: str, rows: Sequence[Mapping[str, object]], points: Sequence[Values], samples: Sequence[Values]
) -> dict[str, object]:
    """Means over the propositions where a value is defined; counts are sums."""
    row: dict[str, object] = {"grader": grader, "proposition": MEAN, "threshold": np.nan}
    for name in ("n", "n_positive", "n_unscored"):
        row[name] = sum(int(r[name]) for r in rows)  # type: ignore[call-overload]
    majority = np.array([r["majority"] for r in rows], dtype=float).reshape(len(rows), 1)
    row["majority"] = float(_mean(majority)[0])
    point = {m: _mean(np.array([p[m] for p in points])) for m in METRICS} if rows else _nothing()
    sample = {m: _mean(np.array([s[m] for s in samples])) for m in METRICS} if rows else _nothing()
    return row | _with_intervals(point, sample, {})


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0))


def _nothing() -> Values:
    return {metric: np.full(1, np.nan) for metric in METRICS}


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, of one shape; NaN where the whole is 0."""
    whole = np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
