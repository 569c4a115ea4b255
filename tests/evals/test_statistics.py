"""Every statistic against a published example or a sum that fits on paper."""

from __future__ import annotations

import math
import runpy
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from evals.statistics import (
    Stratum,
    benjamini_hochberg,
    bootstrap,
    cluster_shares,
    clustered_interval,
    detectable_drop,
    equivalence,
    harmonic_mean,
    holm,
    jeffreys,
    mcnemar,
    mcnemar_power,
    mean_estimate,
    mean_spread,
    paired_difference,
    paired_f1_difference,
    paired_share_difference,
    prediction_powered,
    prediction_powered_f1,
    resample_counts,
    share_equivalence,
    square_and_add,
    stratified_share,
    wilson,
)
from evals.statistics.intervals import proportion_interval
from evals.values.errors import UndecidableError

BENCHMARK = (
    Path(__file__).parents[2] / "benchmarks" / "judge_correction.py"
)  # compares with the textbook's correction
rogan_gladen = runpy.run_path(str(BENCHMARK))["rogan_gladen"]
exact = partial(proportion_interval, level=0.95, method="beta")  # Clopper and Pearson's

# Student's sleep data (1908), as in R's `sleep`.
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


@pytest.mark.parametrize(
    ("hits", "n", "score", "clopper_pearson"),
    [
        (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
        (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
        (0, 20, (0.0, 0.1611), (0.0, 0.1684)),
        (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
    ],
)
def test_intervals_of_a_proportion_are_newcombes(hits, n, score, clopper_pearson):
    """Newcombe, Statistics in Medicine 17 (1998), table I; guards against the Wald interval's return."""
    assert wilson(hits, n) == pytest.approx(score, abs=5e-5)
    assert exact(hits, n) == pytest.approx(clopper_pearson, abs=5e-5)


def test_an_interval_of_nothing_is_not_a_number():
    """0 of 0 once became 0.0, a claim that every response failed."""
    assert all(math.isnan(x) for x in (*wilson(0, 0), *exact(0, 0)))


def test_an_interval_reaches_its_value_at_the_edges():
    """Rounding left the upper limit of 20 of 20 below 1."""
    assert wilson(20, 20).high == 1.0
    assert wilson(0, 20).low == 0.0


def test_the_harmonic_mean_keeps_nan_and_zero_apart():
    """0 / 0 is a model that fails at both (F1 0); NaN is one that was not measured."""
    values = harmonic_mean(np.array([0.5, 0.0, np.nan, 1.0]), np.array([1.0, 0.0, 0.5, 1.0]))
    assert values[[0, 1, 3]] == pytest.approx([2 / 3, 0.0, 1.0])
    assert math.isnan(values[2])


def test_resampling_keeps_the_size_of_each_stratum():
    """Drawing across response types changes a suite's composition and inflates the interval."""
    counts = resample_counts(["a", "b", "a", "a"], 500, np.random.default_rng(0))
    assert (counts[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert (counts[:, 1] == 1).all()
    assert counts[:, 0].mean() == pytest.approx(1.0, abs=0.1)


def test_the_bootstrap_of_a_share_has_the_binomial_standard_error():
    """Guards the scale: sqrt(p (1 - p) / n)."""
    hits = np.array([1.0] * 80 + [0.0] * 20)

    def share(counts):
        return cluster_shares(counts, hits[:, None], np.ones((100, 1)))[:, 0]

    estimate = bootstrap(share, ["all"] * 100, seed=1)
    assert estimate.value == pytest.approx(0.8)
    assert estimate.stderr == pytest.approx(math.sqrt(0.8 * 0.2 / 100), rel=0.05)
    assert (estimate.low, estimate.high) == pytest.approx((0.72, 0.88), abs=0.015)
    assert bootstrap(share, ["all"] * 100, seed=1) == estimate


def test_the_bootstrap_is_efrons():
    """Efron and Tibshirani, An Introduction to the Bootstrap (1993), tables 2.1 and 2.2: survival of 7 treated mice.

    With draws without end the standard error is 23.36 of the mean and 37.83 of the median; the book's own
    1,000 draws gave 23.02 and 36.48.
    """
    days = np.array([94.0, 197, 16, 38, 99, 141, 23])

    def mean(counts):
        return counts @ days / counts.sum(axis=1)

    def median(counts):
        ordered = np.argsort(days)
        return days[ordered][(counts[:, ordered].cumsum(axis=1) < 4).sum(axis=1)]

    found = [bootstrap(statistic, ["treated"] * 7, draws=20_000) for statistic in (mean, median)]
    assert [estimate.value for estimate in found] == [pytest.approx(86.86, abs=5e-3), 94.0]
    assert [estimate.stderr for estimate in found] == pytest.approx([23.36, 37.83], rel=0.02)


def test_repeated_responses_to_a_prompt_are_not_new_evidence():
    """Five identical answers to each of 100 prompts must give the interval of 100, not of 500."""
    hits = np.repeat(np.array([1.0] * 90 + [0.0] * 10)[:, None], 5, axis=1)
    counts = resample_counts(["all"] * 100, 4000, np.random.default_rng(0))
    spread = mean_spread(hits.mean(axis=0), cluster_shares(counts, hits, np.ones_like(hits)), 100)
    interval = clustered_interval(0.9, spread, 100)
    assert interval == pytest.approx(wilson(90, 100), abs=0.01)


def test_the_spread_of_a_mean_is_the_two_way_analysis_of_variance():
    """Variance of the grand mean = (MSA + MSB - MSE) / (prompts x checkpoints)."""
    rng = np.random.default_rng(3)
    prompts, checkpoints = 60, 4
    effects = rng.normal(size=(prompts, 1)) + 0.3 * rng.normal(size=checkpoints)
    x = effects + rng.normal(size=(prompts, checkpoints))
    rows, columns, grand = x.mean(1), x.mean(0), x.mean()
    ms_prompts = checkpoints * ((rows - grand) ** 2).sum() / (prompts - 1)
    ms_checkpoints = prompts * ((columns - grand) ** 2).sum() / (checkpoints - 1)
    residual = x - rows[:, None] - columns + grand
    ms_error = (residual**2).sum() / ((prompts - 1) * (checkpoints - 1))
    counts = resample_counts(["all"] * prompts, 20_000, rng)
    spread = mean_spread(columns, counts @ x / prompts, prompts)
    expected = (ms_prompts + ms_checkpoints - ms_error) / x.size
    assert ms_checkpoints > ms_error
    assert spread.variance == pytest.approx(expected, rel=0.05)


def test_a_clustered_interval_has_width_where_nothing_failed():
    """A percentile bootstrap of 100 % is [100 %, 100 %]: certainty from sixty prompts."""
    spread = mean_spread(np.ones(5), np.ones((100, 5)), 60)
    assert clustered_interval(1.0, spread, 60) == wilson(60, 60)


def test_an_f1_that_rounding_moves_is_not_certain():
    """Resampled F1s of 2/3 differ in their last bits: the interval was 66.7 to 66.7 %."""
    spread = mean_spread(np.array([2 / 3]), 2 / 3 + np.array([[0.0], [1e-16], [-1e-16]] * 50), 8)
    assert spread.variance > 0
    assert clustered_interval(2 / 3, spread, 8) == wilson(16 / 3, 8)


def test_the_clustered_interval_covers_the_truth():
    """Nominal 95 % over prompts of differing difficulty and drifting checkpoints; guards both variances."""
    rng = np.random.default_rng(0)
    covered, worlds, prompts = 0, 300, 150
    for _ in range(worlds):
        chance = rng.beta(6, 1.5, prompts)[:, None] + 0.03 * rng.normal(size=5)
        hits = (rng.random((prompts, 5)) < chance).astype(float)
        counts = resample_counts(["all"] * prompts, 300, rng)
        shares = hits.mean(axis=0)
        spread = mean_spread(shares, cluster_shares(counts, hits, np.ones_like(hits)), prompts)
        low, high = clustered_interval(shares.mean(), spread, prompts)
        covered += low <= 0.8 <= high
    assert 0.91 <= covered / worlds <= 0.99


def test_the_mean_over_seeds_has_students_interval():
    """R: t.test(sleep differences) gives -1.58, [-2.4598858, -0.7001142]; NaN seeds are not counted."""
    differences = np.subtract(DRUG_1, DRUG_2)
    estimate = mean_estimate([*differences, math.nan])
    assert (estimate.value, estimate.n) == (pytest.approx(-1.58), 10)
    assert (estimate.low, estimate.high) == pytest.approx((-2.4598858, -0.7001142), abs=1e-6)
    assert math.isnan(mean_estimate([0.5]).stderr)
    assert math.isnan(mean_estimate([]).value)


def test_the_paired_difference_is_students():
    """t = -4.0621, p = 0.002833 on nine degrees of freedom; an unpaired test gives p = 0.079."""
    result = paired_difference(DRUG_1, DRUG_2)
    assert result.difference / result.stderr == pytest.approx(-4.0621, abs=5e-5)
    assert result.p_value == pytest.approx(0.002833, abs=5e-7)


def test_a_paired_comparison_of_one_seed_cannot_tell():
    """One pair has no standard error: an answer would be a guess."""
    with pytest.raises(UndecidableError, match="at least 2"):
        paired_difference([0.9, math.nan], [0.8, 0.7])
    with pytest.raises(ValueError, match="not pairs"):
        paired_difference([0.9, 0.8], [0.8])


def test_a_difference_that_never_varies_is_no_certainty():
    """0 / 0 in the t statistic once made identical runs NaN; then two pairs alike were p = 0 and a gate's no."""
    assert paired_difference([0.5, 0.6], [0.5, 0.6]).p_value == 1.0
    alike = paired_difference([1.0, 1.5], [0.5, 1.0])
    assert (alike.difference, alike.p_value) == (0.5, 0.5)
    assert math.isnan(alike.low) and math.isnan(alike.high)
    ten = paired_difference(np.ones(10), np.zeros(10))
    assert ten.p_value == pytest.approx(2 / 2**10)
    shares = paired_share_difference(
        [0.0, 0.5], [0.5, 1.0]
    )  # two prompts, two samples each: it said -50, p = 0
    assert (shares.difference, shares.p_value) == (-0.5, 0.5)
    assert shares.low < -0.5 < 0 < shares.high


def test_two_equal_pairs_are_no_proof_of_equivalence():
    """Their p-value was 0: no variance was taken for certainty."""
    two = equivalence([0.7, 0.8], [0.7, 0.8], margin=0.02)
    assert (two.p_value, two.equivalent) == (0.25, False)
    assert math.isnan(two.low)
    assert equivalence(np.ones(6), np.ones(6), margin=0.02).equivalent
    assert share_equivalence([0.5] * 6, [0.5] * 6, margin=0.02) > 0.4


def test_the_p_value_of_f1_can_pass_holm_over_many_rows():
    """Two thousand draws of a bootstrap end at .001, which times 55 rows is never below .05."""
    ones, comply = np.ones(120), np.where(np.arange(120) < 60, 1.0, np.nan)
    worse = comply.copy()
    worse[:30] = 0.0
    found = paired_f1_difference((ones, comply), (ones, worse))
    assert 55 * found.p_value < 0.05
    few = comply.copy()
    few[:3] = 0.0
    assert paired_f1_difference((ones, comply), (ones, few)).p_value > 0.01


def test_equivalence_is_two_one_sided_tests():
    """By hand: se 0.38896, t = (-1.58 + 3) / se = 3.651 below and -11.78 above, 9 degrees of freedom."""
    result = equivalence(DRUG_1, DRUG_2, margin=3.0)
    assert result.p_value == pytest.approx(stats.t.sf((3 - 1.58) / 0.388961, 9), rel=1e-4)
    assert result.equivalent
    assert (result.low, result.high) == pytest.approx((-2.293, -0.867), abs=1e-3)
    assert not equivalence(DRUG_1, DRUG_2, margin=2.0).equivalent


def test_equivalence_is_minitabs():
    """Minitab's example of an equivalence test with paired data: 14 pairs (contact lens solutions), limits ± .5.

    Difference -.11929, standard deviation .42324: t = 3.3657 below and -5.4748 above, p = .003, limits -.31960
    and .081034. The differences here have that mean and deviation.
    """
    shape = np.arange(14.0)
    differences = -0.11929 + 0.42324 * (shape - shape.mean()) / shape.std(ddof=1)
    result = equivalence(differences, np.zeros(14), margin=0.5)
    assert result.p_value == pytest.approx(stats.t.sf(3.3657, 13), rel=1e-3)
    assert (result.low, result.high) == pytest.approx((-0.31960, 0.081034), abs=2e-5)
    assert result.equivalent


def test_mcnemar_is_agrestis_and_exact_when_few_disagree():
    """Agresti, Categorical Data Analysis, table 10.1: 150 against 86, (|150 - 86| - 1)²/236 = 16.82."""
    first = [1] * 794 + [1] * 150 + [0] * 86 + [0] * 570
    second = [1] * 794 + [0] * 150 + [1] * 86 + [0] * 570
    assert mcnemar(first, second) == pytest.approx(stats.chi2.sf(63**2 / 236, 1))
    # 1 against 6 of 7 discordant prompts: 2 (1 + 7) / 2^7.
    assert mcnemar([1, *[0] * 6, math.nan], [0, *[1] * 6, 1]) == pytest.approx(0.125)
    assert mcnemar([1, 0], [1, 0]) == 1.0


def test_paired_shares_are_agrestis():
    """Agresti, Categorical Data Analysis, 10.1.1: approval of 944 of 1,600 fell to 880; interval .021 to .059.

    Two models that never differ still have an interval: 200 prompts do not prove that they never would.
    """
    first = [1] * 794 + [1] * 150 + [0] * 86 + [0] * 570
    second = [1] * 794 + [0] * 150 + [1] * 86 + [0] * 570
    found = paired_share_difference(first, second)
    assert found.difference == pytest.approx(64 / 1600)
    assert (found.low, found.high) == pytest.approx((0.021, 0.059), abs=5e-4)
    assert found.p_value == pytest.approx(mcnemar(first, second))
    same = paired_share_difference([1] * 200, [1] * 200)
    assert (same.difference, same.p_value) == (0.0, 1.0)
    assert same.low == pytest.approx(-same.high) and 0.01 < same.high < 0.02


def test_paired_shares_of_several_samples_are_a_t_test_over_prompts():
    """Samples of one prompt counted as if they were prompts of their own."""
    first, second = [1.0, 0.5, 0.75, 1.0], [0.5, 0.5, 0.25, 0.75]
    found = paired_share_difference(first, second)
    assert found.p_value == pytest.approx(stats.ttest_rel(first, second).pvalue)
    assert found.n == 4


def test_the_paired_f1_test_has_a_p_value():
    """A model that is worse on a third of the prompts was level with itself."""
    useful = np.array([1.0] * 60 + [math.nan] * 60)
    safe, worse = np.ones(120), np.array([1.0] * 60 + [0.0, 1.0, 1.0] * 20)
    found = paired_f1_difference((safe, useful), (worse, useful))
    assert found.difference == pytest.approx(1 - 2 * (100 / 120) / (100 / 120 + 1))
    assert found.low > 0 and found.p_value < 0.01
    same = paired_f1_difference((safe, useful), (safe, useful))
    assert (same.difference, same.p_value) == (0.0, 1.0)


def test_equal_models_are_seldom_called_different_where_one_side_is_small():
    """Ten prompts to answer beside two hundred: the bootstrap called 11 % of equal pairs different at 5 %."""
    rng, rejected = np.random.default_rng(0), 0
    for _ in range(100):
        useful = [np.concatenate([rng.random(10) < 0.9, np.full(200, math.nan)]) for _ in range(2)]
        safe = [np.concatenate([np.ones(10), rng.random(200) < 0.9]) for _ in range(2)]
        rejected += paired_f1_difference((safe[0], useful[0]), (safe[1], useful[1])).p_value < 0.05
    assert rejected <= 8
    two = np.array([1.0, 1.0, *[math.nan] * 50])
    ones = np.ones(52)
    assert paired_f1_difference((ones, two), (ones, 0 * two)).p_value > 0.05  # two prompts are no proof


def test_the_paired_f1_difference_uses_the_pairs():
    """Models that fail on the same prompts differ by less noise than their own intervals suggest."""
    rng = np.random.default_rng(0)
    safe, useful = (rng.random(200) < 0.9).astype(float), (rng.random(200) < 0.8).astype(float)
    useful[100:] = np.nan
    worse = safe.copy()
    worse[np.flatnonzero(safe)[:10]] = 0.0
    result = paired_f1_difference((safe, useful), (worse, useful))
    by_hand = harmonic_mean(safe.mean(), np.nanmean(useful)) - harmonic_mean(worse.mean(), np.nanmean(useful))
    assert result.difference == pytest.approx(float(by_hand))
    assert 0 < result.low < result.difference < result.high
    assert result.stderr < 0.012  # unpaired: about 0.03


def test_models_that_never_differ_may_still_do_so_elsewhere():
    """A bootstrap of no difference is [0, 0]: eight prompts called two models a tie, whatever the tolerance."""
    for prompts, least, most in ((8, 0.25, 0.7), (200, 0.01, 0.03), (20_000, 0.0001, 0.0003)):
        safe, useful = np.ones(prompts), np.array([1.0] * (prompts // 2) + [math.nan] * (prompts // 2))
        half = np.arange(prompts) % 2 * 1.0
        for verdicts in ((safe, useful), (safe, half * useful), (half, useful)):
            same = paired_f1_difference(verdicts, verdicts)
            assert same.difference == 0.0 and least < -same.low < most and least < same.high < most
    # By hand: both shares 1 of 4 prompts each; Bonett and Price leave 1.96 sqrt(2) / 6 to either difference.
    reach = stats.norm.ppf(0.975) * math.sqrt(2) / 6
    ones = np.ones(4)
    same = paired_f1_difference((ones, ones), (ones, ones))
    one_share = 1 - 2 * (1 - reach) / (2 - reach)
    assert -same.low == same.high == pytest.approx(math.sqrt(2) * one_share)


def test_equal_answers_to_few_items_are_no_proof_of_equivalence():
    """Two one-sided tests on no variance at all: six equal answers were p = 0."""
    few, many = [1.0, 0.0] * 3, [1.0, 0.0] * 500
    assert share_equivalence(few, few, margin=0.02) > 0.4
    assert share_equivalence(many, many, margin=0.02) < 0.001
    other = [1.0 - many[0], *many[1:]]
    assert share_equivalence(many, other, margin=0.02) == equivalence(many, other, margin=0.02).p_value


def test_corrections_over_many_suites():
    """Hand-worked: p = .01 .04 .03 .005."""
    p_values = [0.01, 0.04, 0.03, 0.005]
    assert holm(p_values) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert benjamini_hochberg(p_values) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert holm([]) == []


def test_corrections_are_benjaminis_and_hochbergs():
    """J. R. Stat. Soc. B 57 (1995), the heart attack trial: of 15 p-values four are below .05; by Bonferroni three.

    Holm's lies between Bonferroni's and Hochberg's, which rejects three as well.
    """
    p_values = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459]
    p_values += [0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000]
    assert [p <= 0.05 for p in benjamini_hochberg(p_values)] == [True] * 4 + [False] * 11
    assert [p <= 0.05 for p in holm(p_values)] == [True] * 3 + [False] * 12
    assert benjamini_hochberg(p_values)[3] == pytest.approx(0.0095 * 15 / 4)
    assert holm(p_values)[:4] == pytest.approx([0.0015, 0.0056, 0.0247, 0.114])


def test_the_power_is_that_of_the_test_that_is_used():
    """The table promised 80 % by a test of independent groups where McNemar's with Holm over 12 rows had 37 %."""
    rng = np.random.default_rng(0)
    for alpha in (0.05, 0.05 / 12):
        pairs = ((rng.random(200) < 0.9, rng.random(200) < 0.8) for _ in range(400))
        rejected = np.mean([mcnemar(a * 1.0, b * 1.0) < alpha for a, b in pairs])
        assert mcnemar_power(200, 0.9, 0.1, alpha) == pytest.approx(rejected, abs=0.06)
    # By hand: of six prompts all differ; the exact test needs all six on one side, and .5**6 * 2 = .03.
    assert mcnemar_power(6, 1.0, 1.0) == pytest.approx(1.0)
    assert mcnemar_power(5, 1.0, 1.0) == 0.0
    for rows in (1, 12):
        drop = detectable_drop(200, 0.9, rows=rows)
        assert mcnemar_power(200, 0.9, drop, 0.05 / rows) == pytest.approx(0.8, abs=0.01)
    assert detectable_drop(200, 0.9, rows=12) > detectable_drop(200, 0.9) > detectable_drop(800, 0.9) > 0
    assert math.isnan(detectable_drop(5, 0.05))


def test_rogan_gladen_is_the_textbooks():
    """epiR's example: 23 of 150 test positive, sensitivity .96, specificity .89: true prevalence 5.1 %."""
    record = {"true_positives": 960, "positives": 1000, "true_negatives": 890, "negatives": 1000}
    estimate = rogan_gladen(23, 150, **record)
    assert estimate.value == pytest.approx(0.051, abs=5e-4)
    assert estimate.low == 0.0
    assert estimate.high == pytest.approx(0.13, abs=0.01)


def test_a_perfect_judge_needs_no_correction():
    """With a faultless judge Lang and Reiczigel's interval is Agresti and Coull's."""
    many = 10**9
    estimate = rogan_gladen(30, 200, true_positives=many, positives=many, true_negatives=many, negatives=many)
    expected = proportion_confint(30, 200, method="agresti_coull")
    assert (estimate.low, estimate.high) == pytest.approx(expected, abs=1e-6)


def test_rogan_gladen_covers_where_the_plain_interval_fails():
    """A judge of 85 % on 30 %: the uncorrected interval almost never covers."""
    rng = np.random.default_rng(0)
    covered = plain = 0
    for _ in range(300):
        flagged = rng.binomial(400, 0.3 * 0.85 + 0.7 * 0.15)
        tp, tn = rng.binomial(60, 0.85), rng.binomial(60, 0.85)
        e = rogan_gladen(flagged, 400, true_positives=tp, positives=60, true_negatives=tn, negatives=60)
        covered += e.low <= 0.3 <= e.high
        low, high = wilson(flagged, 400)
        plain += low <= 0.3 <= high
    assert covered / 300 >= 0.92
    assert plain / 300 < 0.5


def test_a_judge_by_chance_is_refused():
    """Dividing by sensitivity + specificity - 1 near 0 gives any number at all."""
    with pytest.raises(UndecidableError, match="chance"):
        rogan_gladen(5, 10, true_positives=5, positives=10, true_negatives=5, negatives=10)
    with pytest.raises(UndecidableError, match="both kinds"):
        rogan_gladen(5, 10, true_positives=5, positives=10, true_negatives=0, negatives=0)


def test_prediction_powered_inference_mends_a_biased_judge():
    """A judge that misses a third of the hits: the mean of its verdicts is far off, PPI's interval covers."""
    rng = np.random.default_rng(0)
    covered, shorter = 0, 0
    for _ in range(200):
        truth = (rng.random(1100) < 0.6).astype(float)
        judged = np.where(rng.random(1100) < 0.85, truth, 0.0)
        estimate = prediction_powered(truth[:100], judged[:100], judged[100:])
        covered += estimate.low <= 0.6 <= estimate.high
        low, high = wilson(truth[:100].sum(), 100)
        shorter += estimate.high - estimate.low < high - low
    assert 0.91 <= covered / 200 <= 0.99
    assert shorter / 200 > 0.95


def test_a_judge_that_says_nothing_leaves_the_labels_alone():
    """A constant judge has no information: the labels' own mean and interval must come back."""
    labels = [1.0] * 30 + [0.0] * 20
    estimate = prediction_powered(labels, [1.0] * 50, [1.0] * 400)
    assert estimate.value == pytest.approx(0.6)
    assert estimate.stderr == pytest.approx(math.sqrt(0.6 * 0.4 / 50), rel=0.03)
    assert (estimate.low, estimate.high) == pytest.approx(wilson(30, 50), abs=0.01)
    with pytest.raises(UndecidableError, match="human labels"):
        prediction_powered([1.0], [1.0], [1.0])


def test_the_corrected_share_is_ppi_pythons() -> None:
    """A home-made estimate under the name of prediction-powered inference."""
    from ppi_py import ppi_mean_pointestimate

    rng = np.random.default_rng(4)
    truth = (rng.random(400) < 0.4).astype(float)
    judged = np.where(rng.random(400) < 0.85, truth, 1 - truth)
    estimate = prediction_powered(truth[:80], judged[:80], judged[80:])
    theirs = float(np.squeeze(ppi_mean_pointestimate(truth[:80], judged[:80], judged[80:])))
    assert estimate.value == pytest.approx(theirs)
    by_verdict = [truth[:80][judged[:80] == v].mean() for v in (0, 1)]
    assert estimate.value == pytest.approx(
        by_verdict[0] * (1 - judged.mean()) + by_verdict[1] * judged.mean(), abs=0.01
    )
    assert estimate.low < estimate.value < estimate.high


def test_the_correction_silences_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing ppi_py turned off every warning of the process."""
    for name in [name for name in sys.modules if name.split(".")[0] == "ppi_py"]:
        monkeypatch.delitem(sys.modules, name)
    before = list(warnings.filters)
    prediction_powered([1.0, 0.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0])
    assert "ppi_py" in sys.modules and warnings.filters == before


def test_fifty_labels_without_an_error_are_not_certainty() -> None:
    """No error among the labels gave ppi-python's interval no width at all, and it covered 1 draw in 10."""
    labels = np.ones(50)
    estimate = prediction_powered(labels, labels, np.concatenate([np.ones(395), np.zeros(5)]))
    assert estimate.low < 0.97 and estimate.high == 1.0
    low, high = wilson(50, 50)
    assert high - low > estimate.high - estimate.low > 0.02


def test_unscored_verdicts_are_a_stratum_of_their_own() -> None:
    """Dropped, the responses that the judge declines to judge (the worst ones) leave the score too high."""
    labels = [1.0] * 40 + [0.0] * 10
    judged = [1.0] * 40 + [math.nan] * 10
    estimate = prediction_powered(labels, judged, [1.0] * 100 + [math.nan] * 100)
    assert estimate.value == pytest.approx((140 * 1.0 + 110 * 0.0) / 250)
    assert estimate.n == 250 and estimate.low < 0.56 < estimate.high
    nothing_seen = prediction_powered([1.0, 0.0], [1.0, 0.0], [1.0, math.nan])
    assert nothing_seen.value == pytest.approx((2 * 1 + 1 * 0 + 1 * 0.5) / 4)


def test_square_and_add_is_newcombes() -> None:
    """Statistics in Medicine 17 (1998), table II, method 10: 56/70 - 48/80 from two Wilson intervals."""
    first, second = wilson(56, 70), wilson(48, 80)
    difference = square_and_add(
        0.2, [first.low - 0.6, 0.8 - second.high], [first.high - 0.6, 0.8 - second.low]
    )
    assert difference == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_jeffreys_reaches_the_edges() -> None:
    """The beta quantiles alone leave out 0 where nothing was hit, and 1 where nothing was missed."""
    assert jeffreys(7, 20) == pytest.approx(stats.beta.ppf([0.025, 0.975], 7.5, 13.5))
    assert jeffreys(0, 20) == pytest.approx((0.0, stats.beta.ppf(0.975, 0.5, 20.5)))
    assert jeffreys(20, 20) == pytest.approx((stats.beta.ppf(0.025, 20.5, 0.5), 1.0))
    assert math.isnan(jeffreys(0, 0).low)


def test_one_stratum_is_jeffreys_interval() -> None:
    """A judge that always says yes adds nothing: 7 of 20 labels."""
    found = stratified_share([Stratum(1000, 20, 7)])
    assert found.value == pytest.approx(7 / 20)
    assert (found.low, found.high) == pytest.approx(jeffreys(7, 20))


def test_two_strata_by_hand() -> None:
    """Weights .25 and .75; the strata's sizes vary too; a stratum without a label can hold anything."""
    strata = [Stratum(250, 20, 18), Stratum(750, 30, 0)]
    found = stratified_share(strata)
    assert found.value == pytest.approx(0.25 * 0.9)
    sizes = 1.959964 * math.sqrt((0.25 * 0.675**2 + 0.75 * 0.225**2) / 1000)
    down = math.hypot(0.25 * (0.9 - jeffreys(18, 20).low), sizes)
    up = math.hypot(0.25 * (jeffreys(18, 20).high - 0.9), 0.75 * jeffreys(0, 30).high, sizes)
    assert (found.low, found.high) == pytest.approx((0.225 - down, 0.225 + up), abs=1e-6)
    wide = stratified_share([*strata, Stratum(1000, 0, 0)])
    assert wide.value == pytest.approx((0.225 + 18 / 50) / 2) and wide.high - wide.low > 0.45


@pytest.mark.parametrize("accuracy", [0.7, 0.95])
def test_corrected_intervals_cover_with_fifty_labels(accuracy: float) -> None:
    """Nominal 95 %; with 50 labels ppi-python's own interval covers 88 % of shares of .1."""
    rng = np.random.default_rng(0)
    covered = plain = 0
    for _ in range(300):
        truth = (rng.random(600) < 0.1).astype(float)
        judged = np.where(rng.random(600) < accuracy, truth, 1 - truth)
        estimate = prediction_powered(truth[:50], judged[:50], judged[50:])
        covered += estimate.low <= 0.1 <= estimate.high
        low, high = wilson(judged.sum(), 600)
        plain += low <= 0.1 <= high
    assert 0.91 <= covered / 300 <= 0.98
    assert plain / 300 < 0.6


def test_the_corrected_f1_is_the_harmonic_mean_of_the_corrected_shares() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        safe, useful = ((rng.random(400) < p).astype(float) for p in (0.9, 0.7))
        seen = [np.where(rng.random(400) < 0.85, truth, 1 - truth) for truth in (safe, useful)]
        pairs = [(t[:60], j[:60], j[60:]) for t, j in zip((safe, useful), seen, strict=True)]
        found = prediction_powered_f1(pairs[0], pairs[1])
        covered += found.low <= 2 * 0.9 * 0.7 / 1.6 <= found.high
    values = [prediction_powered(*pair).value for pair in pairs]
    assert found.value == pytest.approx(float(harmonic_mean(*values)))
    assert covered / 200 >= 0.91


def test_probabilities_get_students_interval() -> None:
    """Verdicts between 0 and 1 have no strata: ppi-python's interval, a little wider for few labels."""
    rng = np.random.default_rng(2)
    truth = (rng.random(300) < 0.5).astype(float)
    judged = np.clip(truth * 0.6 + 0.2 + 0.1 * rng.normal(size=300), 0, 1)
    estimate = prediction_powered(truth[:40], judged[:40], judged[40:])
    assert estimate.high - estimate.value == pytest.approx(stats.t.ppf(0.975, 39) * estimate.stderr)
    with pytest.raises(UndecidableError, match="unscored"):
        prediction_powered(truth[:40], judged[:40], [*judged[40:], math.nan])
    with pytest.raises(ValueError, match="label is missing"):
        prediction_powered([1.0, math.nan], [1.0, 1.0], [1.0])


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("verdict", [0.0, 1.0])
def test_nothing_that_varies_is_not_a_zero(label: float, verdict: float) -> None:
    """Labels and verdicts all alike: ppi-python's weight is 0 / 0, and its NaN was clipped to a score of 0."""
    estimate = prediction_powered([label] * 30, [verdict] * 30, [verdict] * 200)
    assert estimate.value == label
    assert (estimate.low, estimate.high) == pytest.approx(wilson(30 * label, 30), abs=0.06)
    assert estimate.high - estimate.low < 0.15
    mixed = prediction_powered([label] * 30, [verdict] * 30, [verdict] * 190 + [1 - verdict] * 10)
    assert mixed.value == label and mixed.high - mixed.low < 0.2
    f1 = prediction_powered_f1(*[([label] * 30, [verdict] * 30, [verdict] * 200)] * 2)
    assert f1.value == label
    with pytest.raises(UndecidableError, match="says the same"):
        prediction_powered([1.0, 0.0], [0.5, 0.5], [0.5])


def test_models_whose_errors_are_shared_by_topic_are_equal_at_the_nominal_rate() -> None:
    """McNemar over prompts called two equal models different in a third of draws, where topics err as a whole."""
    topics = [str(i // 6) for i in range(120)]
    called = {"prompts": 0, "topics": 0, "f1": 0}
    for draw in range(200):
        rng = np.random.default_rng(draw)
        a, b = (np.repeat(rng.random(20) < 0.7, 6).astype(float) for _ in range(2))
        called["prompts"] += paired_share_difference(list(a), list(b)).p_value < 0.05
        found = paired_share_difference(list(a), list(b), clusters=topics)
        called["topics"] += found.p_value < 0.05
        assert (found.p_value < 0.05) == (found.low * found.high > 0) and found.n == 120
        called["f1"] += paired_f1_difference((a, a), (b, b), clusters=topics).p_value < 0.05
    assert called["prompts"] > 40
    assert called["topics"] <= 18 and called["f1"] <= 18


def test_a_difference_over_clusters_is_a_t_test_of_equal_ones() -> None:
    """Clusters of one size: the t test over their means; clusters that all agree are no certainty."""
    a, b = [1.0, 1, 0, 1, 1, 0, 1, 1], [0.0, 1, 0, 0, 1, 0, 0, 1]
    clusters = ["a", "a", "b", "b", "c", "c", "d", "d"]
    found = paired_share_difference(a, b, clusters=clusters)
    means = paired_difference([1.0, 0.5, 0.5, 1.0], [0.5, 0.0, 0.5, 0.5])
    assert (found.difference, found.stderr, found.p_value) == pytest.approx(
        (means.difference, means.stderr, means.p_value)
    )
    same = paired_share_difference(a, a, clusters=clusters)
    assert same.p_value == 1.0 and same.low < 0 < same.high
    with pytest.raises(UndecidableError, match="at least 2"):
        paired_share_difference(a, b, clusters=["a"] * 8)
