"""The tilted policy from samples: hand-worked numbers, and a policy over a few responses that can all be counted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evals.statistics.tilted import (
    best_of,
    best_of_kl,
    effective_size,
    log_partitions,
    plain_means,
    tilted_logits,
    tilted_means,
    tilted_weights,
)


def test_weights_are_those_of_the_exponential() -> None:
    """A weight off by the normalisation moves every number of a ceiling."""
    rewards = np.array([[0.0, math.log(3.0), np.nan], [5.0, 5.0, 5.0], [np.nan, np.nan, np.nan]])
    weights = tilted_weights(tilted_logits(rewards, 1.0))
    assert weights[0] == pytest.approx([0.25, 0.75, 0.0])
    assert weights[1] == pytest.approx([1 / 3] * 3)
    assert np.isnan(weights[2]).all()
    assert effective_size(weights)[:2] == pytest.approx([1 / (0.25**2 + 0.75**2), 3.0])
    half = tilted_weights(tilted_logits(rewards[:1], 0.5))
    assert half[0] == pytest.approx([0.1, 0.9, 0.0])


def test_the_jackknife_by_hand() -> None:
    """n times the whole less n - 1 times the mean of the estimates without one sample."""
    rewards, values = np.array([[0.0, 0.0, math.log(2.0)]]), np.array([[0.0, 0.0, 1.0]])
    logits = tilted_logits(rewards, 1.0)
    assert plain_means(logits, values) == pytest.approx([0.5])
    without = [2 / 3, 2 / 3, 0.0]
    assert tilted_means(logits, values) == pytest.approx([3 * 0.5 - 2 * sum(without) / 3])


def test_one_sample_with_all_the_weight_loses_no_digit() -> None:
    """Taking its weight off by subtraction left 0 / 0 for all the others."""
    logits = tilted_logits(np.array([[0.0, 1.0, 4000.0]]), 1.0)
    found = tilted_means(logits, np.array([[1.0, 0.0, 1.0]]))
    share = 1 / (1 + math.e)
    assert found == pytest.approx([3 * 1.0 - 2 * (1.0 + 1.0 + share) / 3])


def test_unknown_values_are_left_out_and_never_zero() -> None:
    """An unjudged sample that counted as safe would raise every ceiling."""
    logits = tilted_logits(np.array([[0.0, 0.0, 9.0]]), 1.0)
    assert tilted_means(logits, np.array([[1.0, 1.0, np.nan]])) == pytest.approx([1.0])
    assert np.isnan(tilted_means(logits, np.array([[1.0, np.nan, np.nan]])))[0]


@pytest.mark.parametrize("beta", [1.0, 0.4])
def test_estimates_converge_to_the_enumerated_optimum(beta: float) -> None:
    """A bias that more samples do not take away: a ceiling of something else."""
    probability, reward = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.0, 0.5, 1.0, 2.0])
    value = np.array([0.0, 1.0, 0.0, 1.0])
    tilted = probability * np.exp(reward / beta)
    truth, partition = float(tilted @ value / tilted.sum()), math.log(tilted.sum())
    rng = np.random.default_rng(0)
    errors = []
    for samples in (8, 16, 64):
        drawn = rng.choice(4, size=(1500, samples), p=probability)
        found = tilted_means(tilted_logits(reward[drawn], beta), value[drawn]).mean()
        parts = log_partitions(reward[drawn], beta).mean()
        errors.append((abs(found - truth), abs(parts - partition)))
    assert errors[2][0] < 0.02 and errors[2][1] < 0.03
    assert errors[2] < errors[0]


def test_another_proposal_is_weighted_back() -> None:
    """Samples of a hotter policy taken as they are say what that policy would do."""
    probability, proposal = np.array([0.9, 0.1]), np.array([0.5, 0.5])
    drawn = np.random.default_rng(1).choice(2, size=(2000, 16), p=proposal)
    ratio = np.log(probability / proposal)[drawn]
    rewards, value = np.array([0.0, 1.0])[drawn], np.array([0.0, 1.0])[drawn]
    truth = 0.1 * math.e / (0.9 + 0.1 * math.e)
    assert tilted_means(tilted_logits(rewards, 1.0, ratio), value).mean() == pytest.approx(truth, abs=0.015)
    assert log_partitions(rewards, 1.0, ratio).mean() == pytest.approx(
        math.log(0.9 + 0.1 * math.e), abs=0.015
    )


def test_best_of_k_over_all_choices() -> None:
    """Drawing the k responses at random gave another figure each time; ties went to the first one."""
    rewards, values = np.array([[1.0, 2.0, 3.0, 3.0]]), np.array([[0.0, 0.0, 1.0, 0.0]])
    assert best_of(rewards, values, 1) == pytest.approx([0.25])
    # Of the six pairs five have a response of the best reward, which is right half the time.
    assert best_of(rewards, values, 2) == pytest.approx([5 / 6 / 2])
    assert best_of(rewards, values, 4) == pytest.approx([0.5])
    assert np.isnan(best_of(rewards, values, 5))[0]
    assert best_of_kl(4) == pytest.approx(math.log(4) - 0.75)
