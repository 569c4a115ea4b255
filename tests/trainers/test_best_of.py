"""How often a chosen response comes first, against numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from trainers.reward.best_of import (
    Rewarded,
    accuracy_parts,
    chance,
    credit,
    pair_accuracy,
    scores_by_subset,
    ties_parts,
)

NAN = float("nan")


def rewarded(id: str, chosen: Sequence[float], rejected: Sequence[float]) -> Rewarded:
    return Rewarded(id, np.array(chosen, dtype=float), np.array(rejected, dtype=float))


@pytest.mark.parametrize(
    ("chosen", "rejected", "worth"),
    [
        ([2], [1, 0, -1], 1.0),
        ([1], [1, 0, -1], 0.5),
        ([1], [1, 1, 1], 0.25),
        ([0], [1, 0, -1], 0.0),
        ([2, 1], [0, 0], 1.0),
        ([2, 0], [0, -1], 0.0),
    ],
)
def test_equal_rewards_share_the_point(
    chosen: Sequence[float], rejected: Sequence[float], worth: float
) -> None:
    """A constant reward that is right everywhere, as an argmax at the first place has it."""
    assert credit(rewarded("x", chosen, rejected)) == worth


def test_what_is_unscored_is_neither_right_nor_wrong() -> None:
    """A prompt with a NaN counted as wrong."""
    prompts = [
        rewarded("a", [2], [1, 0, 0]),
        rewarded("b", [NAN], [1, 0, 0]),
        rewarded("c", [0], [NAN, 1, 0]),
    ]
    parts = accuracy_parts(prompts)
    assert parts.value == 1.0 and parts.counted.sum() == 1
    assert pair_accuracy(prompts) == 1.0 and math.isnan(credit(prompts[1]))
    assert math.isnan(accuracy_parts(prompts[1:]).value)


def test_pairs_and_chance() -> None:
    prompts = [rewarded("a", [1], [2, 1, 0]), rewarded("b", [3], [0, 0, 0])]
    assert pair_accuracy(prompts) == pytest.approx((0.5 + 1.0) / 2)
    assert chance(prompts) == 0.25


def test_ties_are_scored_as_published() -> None:
    """By hand: question 1 has gaps 2 (tied) and 3 (ref) and a spread of 1, question 2 is wrong where it is tied."""
    prompts = [
        rewarded("tied:1", [4, 3], [1, 0]),
        rewarded("ref:1", [4], [1, 0]),
        rewarded("tied:2", [4, 1], [2, 0]),
        rewarded("ref:2", [4], [3.5, 0]),
    ]
    wider = (math.tanh(2 / 1 - 1) + math.tanh(-1 / 3 - 1)) / 2
    expected = 0.3 * 0.5 + 0.3 * 1.0 + 0.2 * 0.5 + 0.2 * 0.5 + 0.01 * wider
    assert ties_parts(prompts).value == pytest.approx(expected)


def test_right_answers_that_are_paid_alike_divide_by_nothing() -> None:
    """A spread of 0 ended in NaN, and the whole score with it."""
    prompts = [rewarded("tied:1", [2, 2], [1]), rewarded("ref:1", [2], [1])]
    assert ties_parts(prompts).value == pytest.approx(0.3 + 0.3 + 0.2 + 0.2 + 0.01)
    constant = [rewarded("tied:1", [0, 0], [0]), rewarded("ref:1", [0], [0])]
    assert ties_parts(constant).value == 0.0


def test_two_rewards_are_compared_on_what_both_scored() -> None:
    """A reward that scores the easy prompts alone, better than one that scores them all."""
    first = {"A": accuracy_parts([rewarded("a", [1], [0]), rewarded("b", [0], [1])])}
    second = {"A": accuracy_parts([rewarded("a", [1], [0]), rewarded("b", [NAN], [1])])}
    own, gaps = scores_by_subset(second, first, draws=200, seed=0)
    assert own["A"].value == 1.0 and gaps["A"].value == 0.0 and gaps[""].value == 0.0


def test_each_subset_counts_once_in_the_mean() -> None:
    many = accuracy_parts([rewarded(str(i), [1], [0]) for i in range(30)])
    one = accuracy_parts([rewarded("x", [0], [1])])
    own, _ = scores_by_subset({"many": many, "one": one}, None, draws=200, seed=0)
    assert own[""].value == 0.5 and own["many"].low > 0.85 and own["one"].high > 0.5
