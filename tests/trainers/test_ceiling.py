"""A reward's ceiling where the optimum is known: limits, what cannot be told, pairs, equal KL."""

from __future__ import annotations

import math
import runpy
from pathlib import Path

import numpy as np
import pytest

from evals.statistics import wilson
from trainers.reward.ceiling import (
    F1,
    KL,
    NOT_OVERREFUSE,
    NOT_UNSAFE,
    OBJECTIVE,
    REWARD,
    PromptMeasure,
    SampleTable,
    Tilted,
    as_learned,
    beta_of_kl,
)
from trainers.reward.ceiling_limits import TellingLimits, _wilson, difference, predicted

SIMULATION = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "ceiling_simulation.py"))
Case, simulate = SIMULATION["Case"], SIMULATION["simulate"]


def table_of(right: np.ndarray, units: np.ndarray | None = None) -> SampleTable:
    everyone = np.ones(len(right), dtype=bool)
    measures = {name: PromptMeasure(right, everyone) for name in (NOT_UNSAFE, NOT_OVERREFUSE)}
    units = np.arange(len(right)) if units is None else units
    return SampleTable(measures, np.zeros(right.shape), [""] * len(right), units)


def test_scores_are_those_that_the_learner_sees() -> None:
    """The reward unclipped asks for more than the training can hear."""
    scores = as_learned(np.array([20.0, -20.0, 1.0, np.nan]), np.array([True, False, False, True]), 10.0, 1.0)
    assert scores[:3].tolist() == [10.0, -11.0, 0.0] and math.isnan(scores[3])


def test_the_learner_clips_as_the_training_does() -> None:
    """Two formulas of one score: the ceiling's is the training's."""
    torch = pytest.importorskip("torch")
    from trainers.rl.formulas import bounded_scores

    totals, finished = np.array([12.0, -3.0, 4.0]), np.array([False, True, False])
    theirs = bounded_scores(torch.tensor(totals), torch.tensor(finished), 5.0, 0.5)
    assert as_learned(totals, finished, 5.0, 0.5).tolist() == pytest.approx(theirs.tolist())


def test_limits_hold_the_truth_where_something_is_told() -> None:
    """TellingLimits that forget the bias of few samples, or that are so wide that they say nothing."""
    cases = [Case(1.0, 0.5, 1.0, 16, 1.0), Case(1.0, 1.5, 1.0, 16, 1.0), Case(0.3, 0.5, 1.0, 32, 1.0)]
    found = [simulate(case, 60, 120, known_by=60_000) for case in cases]
    assert all(one.told >= 0.9 for one in found)
    assert 0.9 <= np.mean([one.held for one in found]) <= 0.99


def test_it_cannot_tell_what_its_samples_hardly_show() -> None:
    """What the reward likes is rare: the estimate is off by more than its limits, and must not be given as one."""
    found = simulate(Case(0.3, 0.5, 1.0, 8, 0.2), 20, 200, known_by=60_000)
    assert found.told < 0.3
    assert abs(found.error) < abs(found.plain_error)


@pytest.mark.parametrize("case", [Case(0.1, 0.2, 4.0, 16, 0.2), Case(0.1, 0.5, 1.0, 32, 0.2)])
def test_what_no_sample_shows_is_not_told(case: object) -> None:
    """A policy over a handful of responses: the jackknife sees nothing of those that were not drawn, and limits held
    the truth in a tenth of the draws that were told.
    """
    found = simulate(case, 25, 200, NOT_UNSAFE, known_by=60_000)
    assert found.told <= 0.1 and found.error < -0.02


def test_limits_hold_the_truth_in_the_few_draws_that_are_told() -> None:
    """Draws that happen to show little of the bias are those that are told, and half of their limits missed."""
    cases = [Case(0.3, 0.5, 1.0, 8, 0.5), Case(1.0, 0.2, 4.0, 16, 1.0), Case(1.0, 0.2, 4.0, 8, 2.0)]
    found = [simulate(case, 40, 200, NOT_UNSAFE, known_by=60_000) for case in cases]
    assert all(0.05 < one.told < 0.8 for one in found)
    assert sum(one.told * one.held for one in found) >= 0.93 * sum(one.told for one in found)


def test_what_prompts_may_hide_by_hand() -> None:
    """Three prompts of four samples: one has both outcomes, one of them once; one none, one all."""
    right = np.array([[1.0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    rewards = np.where(right == 1, math.log(3.0), 0.0)
    up, down = Tilted(table_of(right), rewards, 1.0).hidden(NOT_UNSAFE)
    chance = 1 / 6  # by Laplace; by the prompt with one such sample, a quarter
    assert up == pytest.approx((3 * chance / (3 * chance + 1 - chance) - chance) / 3)
    assert down == 0.0  # no prompt has just one sample that does wrong
    assert Tilted(table_of(right), 0.0 * rewards, 1.0).hidden(NOT_UNSAFE) == (
        0.0,
        0.0,
    )  # the mean hides nothing
    assert Tilted(table_of(np.ones((4, 8))), np.zeros((4, 8)), 1.0).hidden(NOT_UNSAFE) == (0.0, 0.0)


def test_what_the_jackknife_took_off_widens_the_far_limit_alone() -> None:
    """Carried as spread of a share, it drew Wilson's limits towards a half, away from where the truth may be."""
    rng = np.random.default_rng(0)
    right = (rng.random((80, 8)) < 0.7).astype(float)
    tilted = Tilted(table_of(right), rng.normal(size=(80, 8)) + right, 0.5)
    found = predicted(tilted, NOT_UNSAFE, tilted.table.draws(300, 0), TellingLimits())
    assert found.correction < 0 and found.high - found.value >= 1.9 * abs(found.correction)
    assert found.value - found.low <= 2.3 * found.stderr


def test_the_objective_is_the_reward_less_the_price_of_kl() -> None:
    """J, E[r] and KL that do not fit together: one of the three is of another policy."""
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(40, 8))
    tilted = Tilted(table_of(rng.integers(2, size=(40, 8)).astype(float)), rewards, 0.7)
    draws = tilted.table.draws(100, 0)
    j, r, kl = (predicted(tilted, name, draws, TellingLimits()).value for name in (OBJECTIVE, REWARD, KL))
    assert j == pytest.approx(r - 0.7 * kl)
    assert kl > 0 and tilted.shown_kl <= math.log(8)


def test_no_kl_above_log_n_is_shown() -> None:
    """A curve that went on past what n samples can show was one of the estimator's own making."""
    rewards = np.random.default_rng(0).normal(size=(30, 16))
    table = table_of(np.ones((30, 16)))
    assert Tilted(table, rewards, 1e-3).shown_kl == pytest.approx(math.log(16))
    beta = beta_of_kl(table, rewards, 1.0)
    assert Tilted(table, rewards, beta).shown_kl == pytest.approx(1.0, abs=1e-3)
    assert math.isnan(beta_of_kl(table, rewards, 5.0))


def test_a_difference_is_paired_by_prompt() -> None:
    """Two rewards that are one: a difference with limits as wide as both together."""
    rng = np.random.default_rng(0)
    right, rewards = rng.integers(2, size=(60, 12)).astype(float), rng.normal(size=(60, 12))
    one = Tilted(table_of(right), rewards, 1.0)
    same = difference(
        one, Tilted(one.table, rewards + 3.0, 1.0), F1, one.table.draws(200, 0), TellingLimits()
    )
    assert same.value == pytest.approx(0.0, abs=1e-12) and same.high - same.low < 1e-9
    better = difference(
        one, Tilted(one.table, rewards + right, 1.0), F1, one.table.draws(200, 0), TellingLimits()
    )
    assert better.low > 0


def test_few_prompts_and_few_samples_are_said() -> None:
    """A ceiling of ten prompts, or of a prompt's two samples, printed as if it were one."""
    rng = np.random.default_rng(0)
    right, rewards = rng.integers(2, size=(12, 8)).astype(float), rng.normal(size=(12, 8))
    rewards[0, 3:] = np.nan
    tilted = Tilted(table_of(right), rewards, 1.0)
    found = predicted(tilted, NOT_UNSAFE, tilted.table.draws(100, 0), TellingLimits())
    assert found.prompts == 11 and "30 are needed" in found.problem
    assert predicted(
        Tilted(tilted.table, np.full_like(rewards, np.nan), 1.0),
        F1,
        tilted.table.draws(100, 0),
        TellingLimits(),
    ).problem


def test_topics_widen_the_limits() -> None:
    """Prompts of one topic err together: sixty prompts of six topics are six."""
    right = np.repeat(np.random.default_rng(3).random((6, 1)) < 0.5, 10, axis=0) * np.ones((60, 8))
    alone, together = table_of(right), table_of(right, np.repeat(np.arange(6), 10))
    widths = []
    for table in (alone, together):
        found = predicted(
            Tilted(table, np.zeros((60, 8)), 1.0), NOT_UNSAFE, table.draws(400, 0), TellingLimits()
        )
        widths.append(found.stderr)
    assert widths[1] > 2 * widths[0]
    assert "6 topic" in found.problem


def test_at_equal_kl_a_draw_s_own_beta_counts() -> None:
    """Limits of a difference at equal KL as if its betas were known: with other prompts they are others."""
    rng = np.random.default_rng(1)
    right, noise = (rng.random((60, 8)) < 0.5).astype(float), rng.normal(size=(60, 8))
    heavy = np.where(np.arange(60) < 30, 3.0, 0.3)[:, None]  # prompts that differ in what they take of the KL
    a, b = heavy * right, heavy[::-1] * (right + 0.5 * noise)
    table, kl = table_of(right), 0.3

    def at(rewards: np.ndarray, of: SampleTable) -> Tilted:
        return Tilted(of, rewards, beta_of_kl(of, rewards, kl, steps=16))

    first, second = at(a, table), at(b, table)
    draws = table.draws(60, 0)
    fixed, moving = (
        difference(first, second, NOT_UNSAFE, draws, TellingLimits(), equal_kl) for equal_kl in (False, True)
    )
    assert moving.value == pytest.approx(fixed.value, abs=1e-9)
    drawn = []
    for counts in draws:
        rows = np.repeat(np.arange(60), counts.astype(int))
        again = table_of(right[rows])
        drawn.append(np.subtract(*(float(np.mean(at(of[rows], again).values(NOT_UNSAFE))) for of in (b, a))))
    exact = float(np.std(drawn, ddof=1))
    assert moving.stderr == pytest.approx(exact, rel=0.1)
    assert abs(fixed.stderr / exact - 1) > 0.1


def test_what_moves_a_share_by_nothing_is_no_reason_to_say_nothing() -> None:
    """Two rewards that differ in a hair: the gate could not tell them from each other, for a hundredth of a point."""
    rng = np.random.default_rng(0)
    right, rewards = rng.integers(2, size=(60, 8)).astype(float), rng.normal(size=(60, 8))
    one, two = (Tilted(table_of(right), rewards * size, 0.3) for size in (1.0, 1.0001))
    found = difference(one, two, NOT_UNSAFE, one.table.draws(100, 0), TellingLimits())
    assert found.told and 0 < abs(found.correction) <= found.high - found.value < 1e-3


def test_a_prompt_with_two_verdicts_is_left_out() -> None:
    """Scored four times and judged twice: it was counted as left out, and used."""
    rng = np.random.default_rng(0)
    right = rng.integers(2, size=(40, 8)).astype(float)
    right[0, 2:] = np.nan
    tilted = Tilted(table_of(right), rng.normal(size=(40, 8)), 1.0)
    assert np.isnan(tilted.values(NOT_UNSAFE)[0]) and np.isfinite(tilted.values(REWARD)[0])


def test_a_beta_near_nothing_keeps_the_best_sample() -> None:
    """A reward over beta that overflows was a sample without one, and the best were dropped."""
    right = np.tile([1.0, 0.0, 0.0, 0.0], (40, 1))
    tilted = Tilted(table_of(right), 10.0 * right, 1e-308)
    assert tilted.weights[0].tolist() == [1.0, 0.0, 0.0, 0.0] and tilted.shown_kl == pytest.approx(
        math.log(4)
    )


@pytest.mark.parametrize(("hits", "size"), [(0, 12), (3, 12), (12, 12), (81, 263)])
def test_the_short_form_of_wilson_is_wilson(hits: int, size: int) -> None:
    """Two formulas of one interval."""
    assert _wilson(hits / size, size, 0.95) == pytest.approx(wilson(hits, size, 0.95))
