"""Ranking error and diagnostics against numbers worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evals.rules.features import Features
from evals.rules.propositions import Proposition
from evals.rules.rulebook import Rulebook
from evals.values.conversation import ResponseType
from trainers.reward.ablations import ablations
from trainers.reward.diagnosis import STEPS, diagnose
from trainers.reward.examples import FitExamples, split_by_prompt
from trainers.reward.ranking import (
    contributions,
    error_change,
    ideal_pairs,
    ranking_error,
    ranking_errors,
    rewards,
    variance_shares,
    worst_pairs,
)
from trainers.reward.reward_weights import RewardWeights
from trainers.reward.rule_effects import doubling_sizes, learning_curve, refitted_without, rule_effects
from trainers.reward.weights import fit_weights
from trainers.reward.weights_config import WeightsConfig

COMPLY = ResponseType.COMPLY
NAN = float("nan")
ORDER = ("best", "middle", "worst")


def examples(
    prompts: str, rank: list[int], rm: list[float], kind: list[float], rude: list[float]
) -> FitExamples:
    """One response a letter of `prompts`."""
    return FitExamples(
        COMPLY,
        tuple(prompts),
        tuple(ORDER[r] for r in rank),
        np.array(rank),
        Features(("kind", "rude"), np.column_stack([kind, rude]).astype(float)),
        np.array(rm, dtype=float),
    )


def weights(kind: float, rude: float) -> RewardWeights:
    return RewardWeights({COMPLY: {"kind": kind, "rude": rude}}, "digest")


# --- ranking error ---------------------------------------------------------------------------


def test_the_error_counts_pairs_with_the_ideal_response() -> None:
    """Guards: pairs of two non-ideal responses counted, or pairs across prompts.

    Prompt a: ideal 1.0 against 2.0 (wrong) and 0.0 (right). Prompt b: ideal 0.0 against -1.0 (right).
    """
    prompts, rank = tuple("aaab") + tuple("b"), np.array([0, 1, 2, 0, 1])
    ideal, other = ideal_pairs(prompts, rank)
    assert sorted(zip(ideal.tolist(), other.tolist(), strict=True)) == [(0, 1), (0, 2), (3, 4)]
    error = ranking_error(prompts, rank, np.array([1.0, 2.0, 0.0, 0.0, -1.0]))
    assert error.value == pytest.approx(1 / 3)
    assert (error.prompts, error.pairs, error.unscored) == (2, 3, 0)
    assert error.low < error.value < error.high


def test_a_constant_reward_errs_half_the_time() -> None:
    """Guards: ties counted as right, which makes a dead reward look perfect."""
    assert ranking_error(tuple("ab") * 2, np.array([0, 0, 1, 1]), np.zeros(4)).value == 0.5


def test_unscored_pairs_are_left_out_and_counted() -> None:
    """Guards: NaN compared as if it were a low reward."""
    error = ranking_error(tuple("aaa"), np.array([0, 1, 2]), np.array([1.0, NAN, 0.0]))
    assert (error.value, error.pairs, error.unscored) == (0.0, 1, 1)
    nothing = ranking_error(tuple("aa"), np.array([0, 1]), np.array([NAN, 0.0]))
    assert np.isnan(nothing.value) and nothing.unscored == 1 and nothing.pairs == 0
    assert np.isnan(ranking_error(tuple("aa"), np.array([1, 1]), np.zeros(2)).value)


def test_the_interval_counts_prompts_not_pairs() -> None:
    """Guards: pairs of one prompt taken for independent: 20 copies of each pair add no information."""
    rng = np.random.default_rng(0)
    right = rng.random(40) < 0.8

    def error_of(copies: int) -> tuple[float, float]:
        prompts = tuple(f"p{i}" for i in range(40) for _ in range(1 + copies))
        rank = np.tile([0] + [1] * copies, 40)
        total = np.concatenate([[0.0] + [-1.0 if ok else 1.0] * copies for ok in right])
        error = ranking_error(prompts, rank, total)
        return error.value, error.high - error.low

    (one, wide), (many, width) = error_of(1), error_of(20)
    assert one == pytest.approx(many) and width == pytest.approx(wide, rel=0.1)


def test_no_observed_error_still_has_an_interval() -> None:
    """Guards: an interval of zero width at zero errors, and one that counts pairs there."""
    prompts = tuple(f"p{i}" for i in range(20) for _ in range(4))
    error = ranking_error(prompts, np.tile([0, 1, 1, 1], 20), np.tile([1.0, 0.0, 0.0, 0.0], 20))
    assert error.value == 0.0 and error.low == 0.0 and 0.1 < error.high < 0.2


def test_the_same_seed_gives_the_same_interval() -> None:
    """Guards: an unseeded bootstrap."""
    prompts, rank = tuple("abcdefgh") * 2, np.repeat([0, 1], 8)
    total = np.random.default_rng(1).normal(size=16)
    assert ranking_error(prompts, rank, total, seed=5) == ranking_error(prompts, rank, total, seed=5)


def test_errors_of_the_terms_alone_and_together() -> None:
    """Guards: the rules' reward without the reward model's, or the other way round.

    rm: .0 against 1.0, wrong. Rules: 2 * 1 = 2 against 2 * .25 = .5, right. Sum: 2.0 against 1.5, right.
    """
    data = examples("aa", [0, 1], [0.0, 1.0], [1.0, 0.25], [0.0, 0.0])
    assert {k: v.tolist() for k, v in rewards(data, weights(2.0, -1.0)).items()} == {
        "rm": [0.0, 1.0],
        "rm+rbr": [2.0, 1.5],
        "rbr": [2.0, 0.5],
    }
    errors = ranking_errors(data, weights(2.0, -1.0))
    assert [errors[m].value for m in ("rm", "rm+rbr", "rbr")] == [1.0, 0.0, 0.0]


# --- diagnostics -----------------------------------------------------------------------------


def test_variance_shares_add_to_one_within_prompts() -> None:
    """Guards: differences between prompts, which teach nothing, counted as the term's share.

    Within each prompt x is +-1 and y +-3 in step: cov(x, x + y) = 4, cov(y, x + y) = 12 of 16.
    """
    x = np.array([101.0, 99.0, 1.0, -1.0])
    y = np.array([3.0, -3.0, 3.0, -3.0])
    assert variance_shares(tuple("aabb"), {"x": x, "y": y}) == pytest.approx({"x": 0.25, "y": 0.75})
    opposed = variance_shares(tuple("aabb"), {"x": -x, "y": y})
    assert opposed["x"] == pytest.approx(-0.5) and opposed["y"] == pytest.approx(1.5)
    holed = variance_shares(tuple("aabbb"), {"x": np.append(x, NAN), "y": np.append(y, 50.0)})
    assert holed == pytest.approx({"x": 0.25, "y": 0.75})
    assert np.isnan(list(variance_shares(tuple("aa"), {"x": np.ones(2)}).values())).all()


def test_worst_pairs_name_what_decides_them() -> None:
    """Guards: the pair's gap with its sign turned, and rules that helped named as culprits.

    Ideal: rm 0, kind .5, rude 1. Other: rm .5, kind 1, rude 0. Weights 2, -3:
    kind costs 1, rude 3, the reward model .5; the gap is -4.5.
    """
    data = examples("aabb", [0, 1, 0, 1], [0.0, 0.5, 0.0, 0.0], [0.5, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0])
    (worst,) = worst_pairs(data, weights(2.0, -3.0))
    assert (worst.prompt, worst.ideal, worst.other) == ("a", 0, 1)
    assert worst.gap == pytest.approx(-4.5)
    assert worst.deciding == (("rude", -3.0), ("kind", -1.0), ("reward_model", -0.5))


def test_contributions_and_the_cost_of_leaving_a_rule_out() -> None:
    """Guards: contributions that do not add up to the gap, and a useful rule that seems to cost nothing."""
    data = examples("aabb", [0, 1, 0, 1], [0.0] * 4, [1.0, 0.0, 1.0, 0.5], [0.0, 0.0, 0.0, 0.5])
    effects = {e.name: e for e in rule_effects(data, weights(2.0, -1.0))}
    assert effects["kind"].gap == pytest.approx(0.75) and effects["kind"].contribution == pytest.approx(1.5)
    assert effects["rude"].contribution == pytest.approx(0.25)
    total = contributions(data, weights(2.0, -1.0)).sum(axis=1)
    assert sum(e.contribution for e in effects.values()) == pytest.approx(
        ((total[0] - total[1]) + (total[2] - total[3])) / 2
    )
    assert effects["kind"].error_without == pytest.approx(0.25)  # a tie in prompt a, right in prompt b
    assert effects["rude"].error_without == 0.0 and np.isnan(effects["rude"].error_refitted)


@pytest.fixture
def rules() -> Rulebook:
    return Rulebook(
        {name: Proposition(name, f"is it {name} ?") for name in ("kind", "rude")},
        {},
        {
            "best": {COMPLY: {"kind": True, "rude": False}},
            "middle": {COMPLY: {"kind": False, "rude": False}},
            "worst": {COMPLY: {"rude": True}},
        },
        ORDER,
    )


def noisy(prompts: int = 200, seed: int = 0) -> FitExamples:
    """Only `kind` tells the classes apart; `rude` is noise."""
    rng = np.random.default_rng(seed)
    rank = np.tile([0, 1], prompts)
    kind = np.clip(0.5 + 0.2 * (1 - 2 * rank) + 0.2 * rng.normal(size=len(rank)), 0, 1)
    data = examples(
        "a" * len(rank),
        rank.tolist(),
        rng.normal(size=len(rank)).tolist(),
        kind.tolist(),
        rng.random(len(rank)),
    )
    return replace(data, prompts=tuple(f"p{i // 2}" for i in range(len(rank))))


def test_a_refit_without_the_only_useful_rule_loses_the_ranking(rules: Rulebook) -> None:
    """Guards: a leave-one-out that leaves the rule in."""
    config = WeightsConfig()
    fit, held = split_by_prompt(noisy(), 0.3, 0)
    fitted = fit_weights([fit], rules, replace(config, holdout=0.0))
    effects = {e.name: e for e in rule_effects(held, fitted, refitted_without(fit, held, rules, config))}
    full = ranking_errors(held, fitted)["rm+rbr"].value
    assert full < 0.2
    assert effects["kind"].error_refitted > 0.35
    assert abs(effects["rude"].error_refitted - full) < 0.1


def test_the_learning_curve_is_nested_and_ends_with_all_prompts(rules: Rulebook) -> None:
    """Guards: sizes beyond the data, and a last point that is not the fit on all prompts."""
    fit, held = split_by_prompt(noisy(), 0.3, 0)
    curve = learning_curve(fit, held, rules, WeightsConfig(), [5, 40, 10_000], orders=3)
    assert [(point.prompts, len(point.errors)) for point in curve] == [(5, 3), (40, 3), (140, 1)]
    fitted = fit_weights([fit], rules, WeightsConfig(holdout=0.0))
    assert curve[-1].mean == ranking_errors(held, fitted)["rm+rbr"].value
    assert len(set(curve[0].errors)) > 1


def test_sizes_double_up_to_all_prompts() -> None:
    """Guards: a curve that stops short of the data, or starts at a fit on nothing."""
    assert doubling_sizes(900) == [14, 28, 56, 112, 225, 450, 900]
    assert doubling_sizes(10) == [5, 10] and doubling_sizes(2) == [2]


def test_a_size_without_an_ordered_pair_is_left_out(rules: Rulebook) -> None:
    """Guards: a curve that fails where its first prompts happen to have one completion each."""
    data = noisy()
    lone = data.select(
        np.array([not (id != "p0" and rank) for id, rank in zip(data.prompts, data.rank, strict=True)])
    )
    held = data.select(np.array([id == "p1" for id in data.prompts]))
    curve = learning_curve(lone, held, rules, WeightsConfig(), [1, 200], orders=4)
    assert curve[-1].prompts == 200 and len(curve[0].errors) < 4


# --- changes and ablations -------------------------------------------------------------------


def test_the_change_of_error_is_paired_by_prompt() -> None:
    """Guards: two errors compared as if they came from different prompts.

    The second reward errs on prompt a's pair, the first on none: 0 - 1/40 of the pairs.
    """
    prompts = tuple(f"p{i}" for i in range(40) for _ in range(2))
    rank, right = np.tile([0, 1], 40), np.tile([1.0, 0.0], 40)
    wrong = right.copy()
    wrong[:2] = [0.0, 1.0]
    change = error_change(prompts, rank, right, wrong)
    assert change.value == pytest.approx(-1 / 40) and change.low < change.value < change.high <= 0.0
    same = error_change(prompts, rank, wrong, wrong)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    assert np.isnan(error_change(prompts, rank, right, np.full(80, NAN)).value)


def test_ablations_are_judged_beside_the_fitted_reward(rules: Rulebook) -> None:
    """Guards: a variant fitted or judged with the wrong terms."""
    fit, held = split_by_prompt(noisy(), 0.3, 0)
    config = WeightsConfig(seed=3)
    weights = fit_weights([fit], rules, replace(config, holdout=0.0))
    found = {a.name: a for a in ablations(fit, held, rules, weights, config, draws=50)}
    assert set(found) == {
        "fitted",
        "rm_alone",
        "rbr_alone",
        "fixed_1",
        "fixed_10",
        "boosted",
        "sign_constraints",
    }
    assert found["fitted"].error.value == ranking_errors(held, weights)["rm+rbr"].value
    assert found["fitted"].change.value == 0.0
    assert found["rm_alone"].error.value == ranking_errors(held, weights)["rm"].value
    alone = fit_weights([fit], rules, replace(config, holdout=0.0, reward_model=False))
    assert found["rbr_alone"].error.value == ranking_errors(held, alone)["rbr"].value
    for a in found.values():
        assert a.change.value == pytest.approx(a.error.value - found["fitted"].error.value)
    silent = replace(fit, reward_model=np.zeros(len(fit))), replace(held, reward_model=np.zeros(len(held)))
    rules_only = replace(config, reward_model=False)
    names = {a.name for a in ablations(*silent, rules, weights, rules_only, draws=50)}
    assert not names & {"rm_alone", "rbr_alone"} and "boosted" in names


def test_a_diagnosis_holds_together(rules: Rulebook) -> None:
    """Guards: shares that do not add up, effects of other data than the errors."""
    fit, held = split_by_prompt(noisy(), 0.3, 0)
    weights = fit_weights([fit], rules, WeightsConfig(holdout=0.0))
    steps: list[int] = []
    d = diagnose(
        fit, held, rules, weights, WeightsConfig(), orders=2, worst=3, draws=50, progress=steps.append
    )
    assert sum(steps) == STEPS and d.response_type is COMPLY and d.error is d.errors["rm+rbr"]
    assert sum(d.variance.values()) == pytest.approx(1.0) and set(d.variance) >= {"reward_model", "kind"}
    refitted = {e.name: e.error_refitted for e in d.effects}
    assert refitted["kind"] >= 0.0 and len(d.worst) <= 3 and d.curve[-1].prompts == 140
    quick = diagnose(fit, held, rules, weights, WeightsConfig(), refit=False, orders=0, draws=50)
    assert quick.curve == [] and all(np.isnan(e.error_refitted) for e in quick.effects)


def test_a_diagnosis_of_prompts_without_an_ideal_completion_claims_nothing(rules: Rulebook) -> None:
    """Guards: a mean of nothing as a finding, or a crash in the middle of a report."""
    fit, held = split_by_prompt(noisy(), 0.3, 0)
    weights = fit_weights([fit], rules, WeightsConfig(holdout=0.0))
    worse = held.select(held.rank > 0)
    d = diagnose(fit, worse, rules, weights, WeightsConfig(), orders=1, draws=50)
    assert np.isnan(d.error.value) and d.worst == [] and np.isnan(d.ablations[0].change.value)
    assert all(np.isnan(e.contribution) for e in d.effects)


def test_the_interval_counts_topics_where_they_are_told() -> None:
    """Forty prompts whose ten topics err as a whole were called forty observations."""
    names = [f"p{i}" for i in range(40) for _ in range(2)]
    rank, total = np.tile([0, 1], 40), np.tile([1.0, 0.0], 40)
    total[:24:2] = -1.0  # the ideal responses of three topics of four prompts
    topics = {f"p{i}": f"t{i // 4}" for i in range(40)}
    plain, counted = (ranking_error(names, rank, total, clusters=told) for told in (None, topics))
    assert plain.value == counted.value == pytest.approx(0.3)
    assert (plain.prompts, plain.pairs) == (counted.prompts, counted.pairs) == (40, 40)
    assert counted.stderr > 1.7 * plain.stderr
