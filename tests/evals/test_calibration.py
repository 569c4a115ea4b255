"""Calibration against hand-worked tables, scikit-learn's AUROC, and labels with known properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from evals.graders.calibration import (
    COLUMNS,
    MEAN,
    auroc,
    calibrate,
    calibration_error,
    gold_labels,
    tune_thresholds,
)
from evals.values.conversation import LabelledResponse, Response, user_prompt
from evals.values.errors import InputError
from evals.values.grades import Grades


def labelled(*labels: dict[str, bool], per_prompt: int = 1) -> list[LabelledResponse]:
    return [
        LabelledResponse(Response(user_prompt(f"p{i // per_prompt}", "hi"), f"text {i}"), row)
        for i, row in enumerate(labels)
    ]


def graded(**columns: list[float]) -> Grades:
    table = np.array(list(columns.values())).T
    reasons = {(int(i), int(j)): "time-out" for i, j in np.argwhere(np.isnan(table))}
    return Grades(tuple(columns), table, reasons)


def test_one_proposition_by_hand() -> None:
    """4 true: .9 .8 .6 .3; 6 false: .7 .4 .2 .1 .1 .0; found at .5: TP 3, FN 1, FP 1, TN 5."""
    probability = [0.9, 0.8, 0.6, 0.3, 0.7, 0.4, 0.2, 0.1, 0.1, 0.0]
    items = labelled(*({"a": i < 4} for i in range(10)))
    row = calibrate("g", graded(a=probability), items)[0]
    assert row["grader"] == "g" and row["proposition"] == "a"
    assert (row["n"], row["n_positive"], row["n_unscored"]) == (10, 4, 0)
    assert row["accuracy"] == pytest.approx(8 / 10)
    assert row["tpr"] == pytest.approx(3 / 4) and row["tnr"] == pytest.approx(5 / 6)
    assert row["balanced_accuracy"] == pytest.approx(19 / 24)
    assert row["majority"] == pytest.approx(0.6)
    # .9 and .8 beat all 6; .6 beats 5; .3 beats 4: 21 of 24.
    assert row["auroc"] == pytest.approx(21 / 24)
    # Squares: .01+.04+.16+.49 + .49+.16+.04+.01+.01+0 = 1.41
    assert row["brier"] == pytest.approx(0.141)
    assert set(row) == set(COLUMNS)


def test_what_is_not_defined_is_nan_never_zero() -> None:
    """A proposition that never holds has no TPR; 0 would pull the mean down, 1 would push it up."""
    rows = calibrate(
        "g", graded(a=[0.1, 0.2], b=[0.9, 0.1]), labelled({"a": False, "b": True}, {"a": False, "b": False})
    )
    never = rows[0]
    for name in ("tpr", "balanced_accuracy", "auroc", "tpr_ci_low", "auroc_ci_high"):
        assert math.isnan(never[name])  # type: ignore[arg-type]
    assert never["accuracy"] == 1.0 and never["majority"] == 1.0
    mean = rows[-1]
    assert mean["proposition"] == MEAN and mean["balanced_accuracy"] == 1.0 and mean["accuracy"] == 1.0


def test_the_accuracy_of_nothing_is_nan() -> None:
    """No responses, no labels, no grades: three ways to 0 / 0."""
    assert math.isnan(calibrate("g", graded(a=[]), [])[0]["accuracy"])  # type: ignore[arg-type]
    assert math.isnan(calibrate("g", graded(a=[0.5]), labelled({}))[0]["accuracy"])  # type: ignore[arg-type]
    row = calibrate("g", graded(a=[math.nan]), labelled({"a": True}))[0]
    assert math.isnan(row["accuracy"]) and row["n_unscored"] == 1 and row["n"] == 0  # type: ignore[arg-type]


def test_unscored_pairs_are_counted_not_scored() -> None:
    """A time-out is neither a hit nor a miss."""
    row = calibrate("g", graded(a=[0.9, math.nan, 0.8]), labelled({"a": True}, {"a": True}, {"a": False}))[0]
    assert (row["n"], row["n_unscored"], row["accuracy"]) == (2, 1, 0.5)


def test_missing_labels_are_left_out() -> None:
    """Gold files of one response type do not label every proposition."""
    rows = calibrate("g", graded(a=[0.9, 0.9], b=[0.1, 0.2]), labelled({"a": True}, {"a": True, "b": False}))
    assert [row["n"] for row in rows] == [2, 1, 3]
    assert np.isnan(gold_labels(labelled({"a": True}), ["b"])).all()


def test_auroc_agrees_with_scikit_learn_with_ties_and_weights() -> None:
    """Ties counted as wins make a constant grader look perfect."""
    rng = np.random.default_rng(0)
    probability = rng.integers(0, 5, 60) / 4
    label = rng.random(60) < 0.3 + 0.4 * probability
    weights = rng.integers(0, 4, (7, 60)).astype(float)
    expected = [roc_auc_score(label, probability, sample_weight=w) for w in weights]
    np.testing.assert_allclose(auroc(probability, label, weights), expected)
    constant = auroc(np.full(4, 0.3), np.array([True, False, False, True]), np.ones((1, 4)))
    assert constant[0] == 0.5


def test_intervals_count_prompts_not_responses() -> None:
    """Ten copies of each response are no more evidence; treating them so narrows intervals by sqrt(10)."""
    rng = np.random.default_rng(1)
    truth = rng.random(60) < 0.5
    probability = np.clip(truth * 0.4 + rng.random(60) * 0.7, 0, 1)
    once = calibrate("g", graded(a=list(probability)), labelled(*({"a": bool(t)} for t in truth)))[0]
    copies = labelled(*({"a": bool(t)} for t in np.repeat(truth, 10)), per_prompt=10)
    often = calibrate("g", graded(a=list(np.repeat(probability, 10))), copies)[0]
    for name in ("accuracy", "auroc", "brier", "balanced_accuracy"):
        width = [row[f"{name}_ci_high"] - row[f"{name}_ci_low"] for row in (once, often)]  # type: ignore[operator]
        assert width[1] == pytest.approx(width[0], rel=0.1)
        assert once[f"{name}_ci_low"] <= once[name] <= once[f"{name}_ci_high"]  # type: ignore[operator]


def test_a_perfect_score_still_has_an_interval() -> None:
    """40 right of 40: an accuracy of .92 would do that often (Wilson: .912 to 1)."""
    row = calibrate("g", graded(a=[1.0] * 40), labelled(*[{"a": True}] * 40))[0]
    assert row["accuracy_ci_low"] == pytest.approx(0.912, abs=1e-3) and row["accuracy_ci_high"] == 1.0


def test_same_seed_same_bytes() -> None:
    """Unseeded draws would change grader.csv from run to run."""
    items = labelled(*({"a": i % 3 == 0} for i in range(30)))
    grades = graded(a=list(np.linspace(0, 1, 30)))
    assert calibrate("g", grades, items) == calibrate("g", grades, items)
    assert calibrate("g", grades, items, seed=1) != calibrate("g", grades, items)


def test_a_threshold_is_tuned_on_one_split_and_applied_to_another() -> None:
    """A grader that says .2 for true and .05 for false is useful at .125 and useless at .5."""
    truth = [True, False, True, False]
    items = labelled(*({"a": t, "b": False} for t in truth))
    grades = graded(a=[0.2, 0.05, 0.2, 0.05], b=[0.1, 0.2, 0.3, 0.1])
    thresholds = tune_thresholds(grades, items)
    assert thresholds == {"a": pytest.approx(0.125), "b": 0.5}
    other = graded(a=[0.3, 0.1], b=[0.1, 0.1])
    unseen = labelled({"a": True, "b": False}, {"a": False, "b": False})
    assert calibrate("g", other, unseen)[0]["tpr"] == 0
    row = calibrate("g", other, unseen, thresholds)[0]
    assert row["balanced_accuracy"] == 1 and row["threshold"] == thresholds["a"]


def test_equal_thresholds_stay_near_one_half() -> None:
    """Any of them fits; the least surprising one is taken."""
    assert tune_thresholds(graded(a=[0.9, 0.1]), labelled({"a": True}, {"a": False})) == {"a": 0.5}


def reliability(probability: np.ndarray, label: np.ndarray, bins: int = 10) -> list[dict[str, float]]:
    """The reliability curve: mean grade and share of true labels in equal bins of the grade, none empty.

    `probability` and `label` may have any one shape; pairs with NaN in either are left out.
    """
    probability, label = np.ravel(probability), np.ravel(label).astype(np.float64)
    known = ~np.isnan(probability) & ~np.isnan(label)
    probability, label = probability[known], label[known]
    place = np.minimum((probability * bins).astype(int), bins - 1)
    return [
        {
            "low": number / bins,
            "high": (number + 1) / bins,
            "mean_grade": float(probability[place == number].mean()),
            "share_true": float(label[place == number].mean()),
            "n": int((place == number).sum()),
        }
        for number in range(bins)
        if (place == number).any()
    ]


def test_reliability_by_hand() -> None:
    """Two bins of five: grades .1 .3 | .9 1.0 with truths 0 1 | 1 1; unscored and unlabelled left out."""
    curve = reliability(
        np.array([0.1, 0.3, 0.9, 1.0, np.nan, 0.5]), np.array([0, 1, 1, 1, 1, np.nan]), bins=2
    )
    assert [point["n"] for point in curve] == [2, 2]
    assert curve[0]["mean_grade"] == pytest.approx(0.2) and curve[0]["share_true"] == 0.5
    assert curve[1]["mean_grade"] == pytest.approx(0.95) and curve[1]["share_true"] == 1.0
    assert calibration_error(curve) == pytest.approx((0.3 + 0.05) / 2)
    assert math.isnan(calibration_error([]))


def test_labels_of_other_responses_are_refused() -> None:
    """A label file with a row too many would shift every label by one."""
    with pytest.raises(InputError, match="1 graded responses but 2 labelled"):
        calibrate("g", graded(a=[0.5]), labelled({"a": True}, {"a": False}))
