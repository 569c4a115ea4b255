"""The gate's statistics against hand-worked numbers, and against the ranking error of `trainers.reward.ranking`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gate_world import RULES, labelled
from numpy.typing import ArrayLike

from evals.statistics import holm, weighted_holm
from evals.values.conversation import LabelledResponse, ResponseType
from evals.values.errors import InputError
from harness.gate.flips import flips
from harness.gate.gate import GateReport, compare_sides
from harness.gate.measures import Pairs, ranking_groups, strata_of
from harness.gate.paired import Errors, compare, rise_limit
from harness.gate.rewards import RewardSide
from harness.gate.shifts import shifts
from harness.gate.verdict import least_prompts
from harness.keys.gate import GateVerdict, RegressConfig
from harness.subjects.completions import CompletionSet
from trainers.reward.ranking import ranking_error
from trainers.reward.reward import Breakdown


def errors(baseline: ArrayLike, candidate: ArrayLike, trials: ArrayLike) -> Errors:
    return Errors(np.array(baseline), np.array(candidate), np.array(trials))


@pytest.fixture(scope="module")
def completions() -> CompletionSet:
    rows = labelled("p", 40)
    classes = tuple(str(row.completion_class) for row in rows)
    rank = np.array([RULES.class_order.index(name) for name in classes])
    return CompletionSet(Path("set"), "set", "", tuple(rows), classes, rank, RULES.class_order)


def breakdown(total: np.ndarray) -> Breakdown:
    reasons = {int(i): "lost" for i in np.flatnonzero(np.isnan(total))}
    return Breakdown(total, {"rule_based": total}, {}, reasons)


def test_rates_are_pooled_over_trials() -> None:
    """A mean of prompts' rates weighs a prompt of one pair like one of ten."""
    (change,) = compare([errors([0, 1], [1, 1], [1, 9])], [0.0], ["", ""], draws=100, sign_flips=100)
    assert change.baseline == pytest.approx(0.1) and change.candidate == pytest.approx(0.2)
    assert (change.prompts, change.trials) == (2, 10)


def test_sign_flips_are_those_of_the_exact_test() -> None:
    """Three prompts, all worse: of the eight sign flips one reaches the sum, p = 1/8; all better: p = 1."""
    worse, better = errors([0, 0, 0], [1, 1, 1], [1, 1, 1]), errors([1, 1, 1], [0, 0, 0], [1, 1, 1])
    same = errors([1, 0, 1], [1, 0, 1], [1, 1, 1])
    found = compare([worse, better, same], [0.0] * 3, [""] * 3, draws=100, sign_flips=40_000)
    assert found[0].p_value == pytest.approx(1 / 8, abs=0.01)
    assert found[1].p_value == found[2].p_value == 1.0


def test_a_rise_of_the_tolerance_is_no_finding() -> None:
    """Every prompt rises by exactly the tolerance: nothing is beyond it."""
    group = errors([0] * 50, [1] * 50, [10] * 50)
    at, beyond = compare([group, group], [0.1, 0.05], [""] * 50, draws=100, sign_flips=2000)
    assert at.p_value == 1.0 and beyond.p_value < 0.001


def test_a_group_without_trials_is_unknown() -> None:
    (change,) = compare([errors([0], [0], [0])], [0.0], [""], draws=100, sign_flips=100)
    assert np.isnan(change.p_value) and np.isnan(change.baseline) and change.prompts == 0


def test_the_interval_covers() -> None:
    """Percentiles of draws that break prompts apart are too narrow: pairs of a prompt stand or fall together."""
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        a, b = (
            4.0 * (rng.random(80) < 0.2),
            4.0 * (rng.random(80) < 0.3),
        )  # four pairs a prompt, all or none wrong
        (change,) = compare(
            [Errors(a, b, np.full(80, 4.0))], [0.0], [""] * 80, draws=300, sign_flips=100, seed=seed
        )
        covered += change.low <= 0.1 <= change.high
    assert 180 <= covered <= 199


def test_weighted_holm() -> None:
    """By hand: order by p/w; the first at p sum(w)/w, the next at p times what is left."""
    p = [0.01, 0.02, 0.03, 0.9]
    assert weighted_holm(p, [1.0] * 4) == pytest.approx(holm(p))
    assert weighted_holm([0.02, 0.03], [3.0, 1.0]) == pytest.approx([0.02 * 4 / 3, 0.03])
    assert weighted_holm([], []) == []
    with pytest.raises(ValueError, match="positive weight"):
        weighted_holm([0.1], [0.0])


def test_ranking_errors_are_those_of_the_outer_loop(completions: CompletionSet) -> None:
    """Two definitions of one measure: a gate that passes what the ranking stage calls worse."""
    rng = np.random.default_rng(3)
    totals = [np.round(-completions.rank + rng.normal(size=len(completions)), 1) for _ in range(2)]
    groups = {g.label: g for g in ranking_groups(completions, Pairs.of(completions), *totals)}
    rows = completions.rows(ResponseType.COMPLY)
    for name, total in zip(("baseline", "candidate"), totals, strict=True):
        expected = ranking_error(
            [completions.prompts[i] for i in rows], completions.rank[rows], total[rows], draws=2
        )
        found = getattr(groups["comply"].errors, name).sum() / groups["comply"].errors.trials.sum()
        assert found == pytest.approx(expected.value)


def test_a_trial_that_one_side_lacks_is_left_out_of_both(completions: CompletionSet) -> None:
    """A candidate that fails on the pairs it would rank wrong must not look better for it."""
    baseline = -completions.rank.astype(float)
    candidate = baseline.copy()
    lost = int(completions.rows(ResponseType.COMPLY)[1])
    candidate[lost] = np.nan
    groups = {g.label: g for g in ranking_groups(completions, Pairs.of(completions), baseline, candidate)}
    assert groups["comply"].unscored == 1
    assert groups["comply"].errors.trials.sum() == groups["hard_refuse"].errors.trials.sum() - 1


def test_strata_follow_the_prompts_of_the_errors(completions: CompletionSet) -> None:
    """Strata in another order than the errors draw prompts of the wrong response type."""
    groups = {
        g.label: g for g in ranking_groups(completions, Pairs.of(completions), *[-completions.rank * 1.0] * 2)
    }
    strata = np.array(strata_of(completions))
    for response_type in completions.response_types:
        assert set(strata[groups[response_type.value].errors.trials > 0]) == {response_type.value}


def test_flips_name_the_widest_first_and_what_moved_them(completions: CompletionSet) -> None:
    before = -completions.rank.astype(float)
    after = before.copy()
    rows = completions.rows(ResponseType.HARD_REFUSE)
    after[rows[1]], after[rows[6]] = 5.0, 2.0  # the second completions of two prompts overtake the ideal ones
    parts = [
        Breakdown(t, {"rule_based": t}, {"apology": t * 0.75, "judgement": t * 0.25}) for t in (before, after)
    ]
    (count,) = [
        f
        for f in flips(completions, Pairs.of(completions), *parts, examples=1)
        if f.response_type is ResponseType.HARD_REFUSE
    ]
    assert (count.turned_wrong, count.turned_right, len(count.worst)) == (2, 0, 1)
    worst = count.worst[0]
    assert (worst.better, worst.worse) == (rows[0], rows[1]) and worst.candidate_gap == -5.0
    assert [name for name, _ in worst.deciding] == ["apology", "judgement"]
    assert sum(change for _, change in worst.deciding) == pytest.approx(
        worst.candidate_gap - worst.baseline_gap
    )


def test_shift_and_scale(completions: CompletionSet) -> None:
    """Twice the reward plus one: shift by mean + 1, scale 2, correlation 1."""
    total = -completions.rank.astype(float)
    found = {s.label: s for s in shifts(completions, total, 2 * total + 1, draws=100)}
    assert found["comply"].scale == pytest.approx(2.0) and found["comply"].correlation == pytest.approx(1.0)
    assert found["comply"].shift == pytest.approx(found["comply"].baseline + 1)
    assert np.isnan(found["comply/ideal"].scale)


@pytest.mark.parametrize(("prompts", "verdict"), [(50, GateVerdict.CANNOT_TELL), (60, GateVerdict.NO_WORSE)])
def test_agreement_on_few_pairs_rules_nothing_out(prompts: int, verdict: GateVerdict) -> None:
    """No pair turned in 50: where 5 in 100 turn, that happens one time in thirteen."""
    rows = [row for row in labelled("p", prompts) if row.response.prompt.response_type is ResponseType.COMPLY]
    rows = [row for row in rows if row.completion_class in ("ideal", "disallowed_completion")]
    classes = tuple(str(row.completion_class) for row in rows)
    rank = np.array([RULES.class_order.index(name) for name in classes])
    pairs = CompletionSet(Path("set"), "set", "", tuple(rows), classes, rank, RULES.class_order)
    side = RewardSide("a", "recorded", breakdown(-rank.astype(float)))
    config = RegressConfig(baseline="a", candidate="b", draws=200, sign_flips=2000)
    report = compare_sides(config, pairs, "", side, side)
    assert least_prompts(config) == 60 and len(rows) == 2 * prompts
    assert report.outcome.verdict is verdict
    if verdict is GateVerdict.CANNOT_TELL:
        assert "50 prompts; 60 are needed" in report.outcome.reasons[0]


@pytest.mark.parametrize("prompts", [30, 45, 60, 80, 100, 200])
@pytest.mark.parametrize(("turned", "back"), [(0.05, 0.0), (0.10, 0.05)])
def test_the_limit_of_a_rise_holds_its_level_at_every_size(prompts: int, turned: float, back: float) -> None:
    """A rise of 5 points by whole prompts passed as "no worse" in 17.5 % of sets of 30 prompts, 15.5 % of 100."""
    rng = np.random.default_rng(prompts)
    passed = 0
    for _ in range(600):
        trials, draw = np.full(prompts, 3.0), rng.random(prompts)
        group = errors(3.0 * (draw > 1 - back), 3.0 * (draw < turned), trials)
        passed += rise_limit(group, 0.95) <= 0.05
    assert passed <= 0.075 * 600


def test_the_limit_of_a_rise_is_poissons() -> None:
    """By hand: nothing turned in 60 prompts leaves -ln(.05) / 60; one prompt of 60 leaves 4.744 / 60."""
    none, one = np.zeros(60), np.eye(60)[0]
    assert rise_limit(errors(none, none, np.ones(60)), 0.95) == pytest.approx(2.9957 / 60, rel=1e-4)
    assert rise_limit(errors(none, one, np.ones(60)), 0.95) == pytest.approx(4.7439 / 60, rel=1e-4)
    assert np.isnan(rise_limit(errors(none, none, none), 0.95))


def test_soft_refusals_that_are_few_are_asked_together(completions: CompletionSet) -> None:
    """Fifty prompts of either kind can rule out no rise of 5 points; their hundred can, and a rise in one counts."""
    kinds = {ResponseType.SAFE_REFUSE_1, ResponseType.SAFE_REFUSE_2}
    rows = [row for row in labelled("p", 50) if row.response.prompt.response_type in kinds]
    classes = tuple(str(row.completion_class) for row in rows)
    rank = np.array([RULES.class_order.index(name) for name in classes])
    soft = CompletionSet(Path("set"), "set", "", tuple(rows), classes, rank, RULES.class_order)
    side = RewardSide("a", "recorded", breakdown(-rank.astype(float)))
    config = RegressConfig(baseline="a", candidate="b", draws=200, sign_flips=2000)
    assert compare_sides(config, soft, "", side, side).outcome.verdict is GateVerdict.NO_WORSE
    first = np.array([t is ResponseType.SAFE_REFUSE_1 for t in soft.types])
    turned = -rank.astype(float)
    prompts = sorted({p for p, here in zip(soft.prompts, first, strict=True) if here})[:2]
    turned[np.isin(soft.prompts, prompts)] *= -1.0
    report = compare_sides(config, soft, "", side, RewardSide("b", "recorded", breakdown(turned)))
    assert report.outcome.verdict is GateVerdict.CANNOT_TELL
    assert "prompts of both soft refusals together" in report.outcome.reasons[-1]


def test_worse_comes_before_cannot_tell(completions: CompletionSet) -> None:
    """One response type that cannot be told must not hide another that got worse."""
    config = RegressConfig(baseline="a", candidate="b", draws=200, sign_flips=2000)
    rng = np.random.default_rng(0)
    before = -completions.rank + 0.1 * rng.normal(size=len(completions))
    after = before.copy()
    types = np.array([t.value for t in completions.types])
    after[types == "comply"] *= -1.0
    noisy = types == "safe_refuse_1"
    after[noisy] += 8.0 * rng.normal(size=int(noisy.sum()))
    before[noisy] += 8.0 * rng.normal(size=int(noisy.sum()))
    sides = [RewardSide(name, "recorded", breakdown(total)) for name, total in (("a", before), ("b", after))]
    report = compare_sides(config, completions, "", *sides)
    verdicts = {check.label: check.verdict for check in report.outcome.checks}
    assert verdicts["comply"] is GateVerdict.WORSE and verdicts["safe_refuse_1"] is GateVerdict.CANNOT_TELL
    assert report.outcome.verdict is GateVerdict.WORSE and report.outcome.verdict.exit_code == 1


def of_topics(topics: int, prompts: int, named: bool = True) -> CompletionSet:
    """`prompts` to answer of each topic, an ideal completion and a bad one each."""
    kept = ("ideal", "disallowed_completion")
    rows = [
        row
        for row in labelled("p", topics * prompts)
        if row.response.prompt.response_type is ResponseType.COMPLY and row.completion_class in kept
    ]
    place = {id: i for i, id in enumerate(dict.fromkeys(row.response.prompt.id for row in rows))}

    def with_topic(row: LabelledResponse) -> LabelledResponse:
        prompt = row.response.prompt
        topic = f"t{place[prompt.id] // prompts}" if named else ""
        return replace(row, response=replace(row.response, prompt=replace(prompt, topic=topic)))

    classes = tuple(str(row.completion_class) for row in rows)
    rank = np.array([RULES.class_order.index(name) for name in classes])
    rows = [with_topic(row) for row in rows]
    return CompletionSet(Path("set"), "set", "", tuple(rows), classes, rank, RULES.class_order)


def gate_of(completions: CompletionSet, after: np.ndarray, **keys: Any) -> GateReport:
    config = RegressConfig(baseline="a", candidate="b", draws=200, sign_flips=2000, **keys)
    totals = -completions.rank.astype(float), after
    sides = [RewardSide(name, "recorded", breakdown(total)) for name, total in zip("ab", totals, strict=True)]
    return compare_sides(config, completions, "", *sides)


def test_topics_are_counted_where_a_set_names_them() -> None:
    """Three topics of ten prompts turned: thirty prompts that agree were called evidence of thirty."""
    completions = of_topics(40, 10)
    topics = [row.response.prompt.topic for row in completions.labelled]
    after = -completions.rank.astype(float) * np.where(np.isin(topics, ["t1", "t2", "t3"]), -1.0, 1.0)
    counted, alone = gate_of(completions, after), gate_of(completions, after, cluster="prompt")
    assert alone.outcome.verdict is GateVerdict.WORSE
    assert counted.outcome.verdict is GateVerdict.CANNOT_TELL
    assert "40 topics; 60 are needed" in counted.outcome.reasons[0]
    whole, narrow = (report.outcome.checks[0].change for report in (counted, alone))
    assert (whole.prompts, whole.trials) == (40, 400) and whole.change == pytest.approx(0.075)
    assert whole.high - whole.low > 2 * (narrow.high - narrow.low)
    unnamed = of_topics(40, 10, named=False)
    assert gate_of(unnamed, after).outcome.verdict is GateVerdict.WORSE
    with pytest.raises(InputError, match="does not tell each prompt's topic"):
        gate_of(unnamed, after, cluster="topic")
    same = of_topics(60, 2)
    assert gate_of(same, -same.rank.astype(float)).outcome.verdict is GateVerdict.NO_WORSE


@pytest.mark.parametrize("topics", [60, 120])
@pytest.mark.parametrize(("turned", "part"), [(0.05, 1.0), (0.10, 0.5)])
def test_the_limit_holds_for_topics_of_unequal_size(topics: int, turned: float, part: float) -> None:
    """A rise of 5 points by topics, whole or in halves, and topics of one to a dozen prompts."""
    rng = np.random.default_rng(topics)
    passed = 0
    for _ in range(400):
        trials = 3.0 * (1 + rng.poisson(4, size=topics))
        wrong = part * trials * (rng.random(topics) < turned)
        passed += rise_limit(Errors(np.zeros(topics), wrong, trials), 0.95) <= 0.05
    assert passed <= 0.08 * 400
