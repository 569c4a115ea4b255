"""The weights' fit: pairs, optimum and certificate, signs, margins, the split, and the file."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import linprog

from evals.rules.features import Features
from evals.rules.propositions import Polarity, Proposition
from evals.rules.rulebook import Rulebook
from evals.values.conversation import LabelledResponse, Response, ResponseType, user_prompt
from evals.values.errors import InputError
from evals.values.grades import Grades, Unscored
from harness.keys.compose import compose_command
from trainers.reward.boosted_trees import RegressionTree, TreeEnsemble
from trainers.reward.examples import (
    FitExamples,
    fit_examples,
    held_out,
    load_examples,
    margins_of,
    ordered_pairs,
    save_examples,
    split_by_prompt,
)
from trainers.reward.hinge_solver import Optimum, lower_bound, mean_hinge, minimise_hinge
from trainers.reward.reward_weights import load_weights, save_weights
from trainers.reward.weights import fit_weights, hinge_rows
from trainers.reward.weights_config import FitMethod, WeightsConfig

ROOT = Path(__file__).parents[2]
COMPLY = ResponseType.COMPLY


@pytest.fixture
def rules() -> Rulebook:
    """best: kind and not rude; middle: not kind and not rude; worst: rude."""
    return Rulebook(
        {
            "kind": Proposition("kind", "is it kind ?", polarity=Polarity.GOOD),
            "rude": Proposition("rude", "is it rude ?", polarity=Polarity.BAD),
        },
        {},
        {
            "best": {COMPLY: {"kind": True, "rude": False}},
            "middle": {COMPLY: {"kind": False, "rude": False}},
            "worst": {COMPLY: {"rude": True}},
        },
        ("best", "middle", "worst"),
    )


NAMES = ("kind", "rude", "class:best", "class:middle", "class:worst")
ORDER = ("best", "middle", "worst")


def examples(prompts: int = 60, noise: float = 0.3, seed: int = 0, per_prompt: int = 4) -> FitExamples:
    """Noisy features of four responses a prompt; the reward model likes rudeness a little."""
    rng = np.random.default_rng(seed)
    rank = np.tile(np.arange(per_prompt) % 3, prompts)
    hard = np.stack([rank == 0, rank == 2, rank == 0, rank == 1, rank == 2], axis=1).astype(float)
    values = np.clip(hard + noise * rng.normal(size=hard.shape), 0.0, 1.0)
    return FitExamples(
        COMPLY,
        tuple(f"p{i}" for i in np.repeat(np.arange(prompts), per_prompt)),
        tuple(ORDER[r] for r in rank),
        rank,
        Features(NAMES, values),
        0.5 * rank + rng.normal(size=len(rank)),
    )


def problem(example: FitExamples, config: WeightsConfig) -> tuple[np.ndarray, np.ndarray]:
    better, worse = ordered_pairs(example.prompts, example.rank)
    return hinge_rows(example, better, worse, config)


def highs(
    rows: np.ndarray, offsets: np.ndarray, lower: np.ndarray, upper: np.ndarray, ladder: float | None = None
) -> float:
    """The optimum of the same problem by a linear-programming library; each class leads the next by `ladder`."""
    n, d = rows.shape
    left, right = [sparse.hstack([sparse.csr_matrix(-rows), -sparse.eye(n)])], [-offsets]
    if ladder is not None:
        steps = np.array([[0.0, 0.0, -1.0, 1.0, 0.0], [0.0, 0.0, 0.0, -1.0, 1.0]])
        left.append(sparse.hstack([sparse.csr_matrix(steps), sparse.csr_matrix((2, n))]))
        right.append(np.full(2, -ladder))
    found = linprog(
        np.r_[np.zeros(d), np.full(n, 1.0 / n)],
        A_ub=sparse.vstack(left),
        b_ub=np.concatenate(right),
        bounds=[*zip(lower, upper, strict=True), *[(0, None)] * n],
        method="highs",
    )
    return float(found.fun)


# --- pairs -----------------------------------------------------------------------------------


def test_pairs_join_responses_of_one_prompt_and_different_rank() -> None:
    """Guards: pairs across prompts, pairs of equal rank, and better and worse exchanged."""
    better, worse = ordered_pairs(("b", "a", "b", "a", "b"), np.array([2, 0, 0, 0, 1]))
    pairs = set(zip(better.tolist(), worse.tolist(), strict=True))
    assert pairs == {(2, 0), (4, 0), (2, 4)}


def test_pairs_agree_with_enumeration_for_prompts_of_many_sizes() -> None:
    """Guards: prompts of unlike size handled together losing or repeating a pair."""
    rng = np.random.default_rng(0)
    prompts = [f"p{i}" for i in rng.integers(0, 25, 120)]
    rank = rng.integers(0, 4, 120)
    better, worse = ordered_pairs(prompts, rank)
    expected = {
        (i, j) if rank[i] < rank[j] else (j, i)
        for i, j in combinations(range(120), 2)
        if prompts[i] == prompts[j] and rank[i] != rank[j]
    }
    found = list(zip(better.tolist(), worse.tolist(), strict=True))
    assert set(found) == expected and len(found) == len(expected)


def test_margins_by_pair_of_classes_stay_fractions() -> None:
    """Guards: the released recipe's margins, cut to whole numbers."""
    margins = margins_of(ORDER, np.array([0, 0, 1]), np.array([1, 2, 2]), 1.0, {"best>worst": 2.5})
    assert margins.tolist() == [1.0, 2.5, 1.0]


# --- optimum ---------------------------------------------------------------------------------


def test_one_pair_by_hand() -> None:
    """Guards: signs. Feature gap .5, offset 1: w = 2 is the smallest that removes the loss."""
    box = np.array([-10.0]), np.array([10.0])
    free = minimise_hinge(np.array([[0.5]]), np.array([1.0]), lower=box[0], upper=box[1])
    assert free.objective == pytest.approx(0.0, abs=1e-9)
    assert free.weights[0] == pytest.approx(2.0, rel=1e-3)
    # With L2 .5 the loss is 1 - .5 w + .25 w^2, smallest at w = 1: 1 - .5 + .25 = .75.
    ridge = minimise_hinge(np.array([[0.5]]), np.array([1.0]), l2=0.5, lower=box[0], upper=box[1])
    assert ridge.weights[0] == pytest.approx(1.0, rel=1e-4)
    assert ridge.objective == pytest.approx(0.75, rel=1e-6) and ridge.hinge == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("signs", [False, True])
def test_the_fit_reaches_the_optimum_of_a_linear_program(noise: float, signs: bool, rules: Rulebook) -> None:
    """Guards: a fit that stops early, and a certificate that is not one."""
    config = WeightsConfig(holdout=0.0, l2=0.0, sign_constraints=signs)
    data = examples(noise=noise)
    weights = fit_weights([data], rules, config)
    report = weights.fits[COMPLY]
    rows, offsets = problem(data, config)
    lower, upper = np.full(5, -1000.0), np.full(5, 1000.0)
    if signs:
        lower[0], upper[1] = 0.0, 0.0
    best = highs(rows, offsets, lower, upper, config.margin / 2 if signs else None)
    assert report.objective == pytest.approx(best, rel=1e-6, abs=1e-9)
    assert report.gap is not None and report.gap <= 1e-6
    assert mean_hinge(rows, offsets, weights.vector(COMPLY, NAMES)) == pytest.approx(report.objective)


def test_any_multipliers_give_a_lower_bound() -> None:
    """Guards: a duality gap whose bound depends on the method having converged."""
    rng = np.random.default_rng(1)
    rows, offsets = rng.normal(size=(40, 3)), rng.normal(size=40)
    lower, upper = np.full(3, -2.0), np.full(3, 2.0)
    for l2 in (0.0, 0.1):
        answer = minimise_hinge(rows, offsets, l2=l2, lower=lower, upper=upper)
        bounds = [lower_bound(rows, offsets, rng.random(40), l2, lower, upper) for _ in range(50)]
        assert max(bounds) <= answer.objective + 1e-12
        assert answer.bound <= answer.objective <= answer.bound * (1 + 1e-6) + 1e-9


def test_l2_satisfies_the_optimality_condition(rules: Rulebook) -> None:
    """Guards: an L2 term scaled by the number of pairs, or by 2."""
    config = WeightsConfig(holdout=0.0, l2=0.02)
    data = examples()
    weights = fit_weights([data], rules, config)
    w = weights.vector(COMPLY, NAMES)
    rows, offsets = problem(data, config)
    assert weights.fits[COMPLY].objective == pytest.approx(
        np.maximum(0, offsets - rows @ w).mean() + 0.01 * w @ w, rel=1e-9
    )
    rng = np.random.default_rng(0)
    for _ in range(200):
        near = w + rng.normal(size=5) * 10 ** rng.uniform(-4, 0)
        assert np.maximum(0, offsets - rows @ near).mean() + 0.01 * near @ near >= weights.fits[
            COMPLY
        ].objective * (1 - 1e-6)


@pytest.mark.parametrize(("noise", "l2"), [(0.3, 0.0), (1.0, 0.0), (1.0, 1e-3)])
def test_never_worse_than_the_released_recipe(noise: float, l2: float, rules: Rulebook) -> None:
    """Guards: an exact method that loses to a thousand steps of AdamW."""
    recipe = runpy.run_path(str(ROOT / "benchmarks" / "weights_fit.py"))["adamw_recipe"]
    config = WeightsConfig(holdout=0.0, l2=l2)
    data = examples(noise=noise, prompts=40)
    rows, offsets = problem(data, config)
    w = recipe(rows, offsets)
    peer = mean_hinge(rows, offsets, w) + l2 / 2.0 * float(w @ w)
    assert fit_weights([data], rules, config).fits[COMPLY].objective <= peer


def test_separable_data_give_the_smallest_weights_without_loss(rules: Rulebook) -> None:
    """Guards: weights at the edge of the box, any of which separates the data.

    One feature gap of .5 with offset 1 and one of .25 with offset 1 need w = 2 and w = 4.
    """
    rows, offsets = np.array([[0.5, 0.0], [0.0, 0.25]]), np.ones(2)
    answer = minimise_hinge(rows, offsets, lower=np.full(2, -1000.0), upper=np.full(2, 1000.0))
    assert answer.gap <= 1e-6 and answer.objective <= 1e-9
    np.testing.assert_allclose(answer.weights, [2.0, 4.0], rtol=1e-3)


@pytest.mark.parametrize("seed", [3, 6, 20])
def test_one_pair_with_a_large_offset_does_not_make_the_method_cycle(seed: int) -> None:
    """Guards: a predictor-corrector that goes round in a circle and ends far from the optimum."""
    rng = np.random.default_rng(seed)
    row, offset = rng.normal(size=(1, 23)), rng.uniform(1e3, 1e4, 1)
    lower, upper = np.full(23, -1000.0), np.full(23, 1000.0)
    sign = rng.integers(0, 3, 23)
    lower[sign == 1], upper[sign == 2] = 0.0, 0.0
    answer = minimise_hinge(row, offset, l2=1e-3, lower=lower, upper=upper)
    assert answer.gap <= 1e-6 and answer.iterations < 50


def test_a_loss_that_counts_as_zero_is_no_distance_from_the_optimum() -> None:
    """Guards: separable data refused because 5e-11 is far from 0 in relative terms."""
    done = Optimum(np.zeros(1), 5e-11, 5e-11, 0.0, 9)
    assert done.gap == 0.0 and replace(done, objective=1.0, bound=0.5).gap == 0.5


def test_features_that_never_differ_get_no_weight() -> None:
    """Guards: a singular system, and noise along directions that the data say nothing about."""
    rng = np.random.default_rng(2)
    rows = np.column_stack([rng.normal(size=100), np.zeros(100), np.zeros(100)])
    answer = minimise_hinge(rows, np.ones(100), lower=np.full(3, -1000.0), upper=np.full(3, 1000.0))
    assert answer.gap <= 1e-6 and np.abs(answer.weights[1:]).max() < 1e-3


def test_the_same_data_give_the_same_bytes(rules: Rulebook, tmp_path: Path) -> None:
    """Guards: an unseeded shuffle."""
    texts = []
    for name in ("one", "two"):
        save_weights(fit_weights([examples()], rules, WeightsConfig(seed=3)), tmp_path / name)
        texts.append((tmp_path / name).read_bytes())
    assert texts[0] == texts[1]


def test_time_grows_with_prompts_not_with_their_square(rules: Rulebook) -> None:
    """Guards: enumeration of all pairs of examples: pairs must be those within prompts only."""
    reports = [
        fit_weights([examples(prompts=n)], rules, WeightsConfig(holdout=0.0)).fits[COMPLY] for n in (50, 500)
    ]
    assert reports[1].pairs == 10 * reports[0].pairs
    assert reports[1].iterations <= 3 * reports[0].iterations


# --- constraints and ablations ---------------------------------------------------------------


def test_a_bad_proposition_may_not_earn_reward(rules: Rulebook) -> None:
    """Guards: labels under which rudeness pays, with and without the constraint."""
    data = examples(noise=0.1)
    upside_down = replace(data, rank=2 - data.rank, classes=tuple(ORDER[2 - r] for r in data.rank))
    free = fit_weights([upside_down], rules, WeightsConfig(l2=1e-3)).for_type(COMPLY)
    bound = fit_weights([upside_down], rules, WeightsConfig(l2=1e-3, sign_constraints=True)).for_type(COMPLY)
    assert free["rude"] > 0.1 and free["kind"] < -0.1
    assert bound["rude"] <= 0.0 and bound["kind"] >= 0.0


@pytest.mark.parametrize("l2", [0.0, 1e-3])
def test_a_better_class_earns_more_by_the_rules_alone(l2: float, rules: Rulebook) -> None:
    """Guards: a reward model that knows the order, and a fit that leaves it to that and pays the worse class more."""
    data = examples(noise=0.1)
    knowing = replace(data, reward_model=-20.0 * data.rank.astype(float))
    upside_down = replace(data, rank=2 - data.rank, classes=tuple(ORDER[2 - r] for r in data.rank))
    for group in (data, knowing, upside_down):
        config = WeightsConfig(l2=l2, sign_constraints=True, margin=0.6, holdout=0.0)
        fitted = fit_weights([group], rules, config)
        best, middle, worst = fitted.vector(COMPLY, NAMES)[2:]
        assert best - middle >= 0.3 - 1e-6 and middle - worst >= 0.3 - 1e-6
        report = fitted.fits[COMPLY]
        assert report.gap is not None and report.gap <= 1e-6


def test_inequalities_hold_exactly_and_cost_what_they_must() -> None:
    """Guards: a penalty that is paid where it should bind, or that counts into the objective."""
    rows, offsets, box = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1.0, 1.0]), np.full(2, 10.0)
    # Free, w = (1, 1) has no loss. With w_0 - w_1 >= 3 at l2 = 1: w = (1, -2) + t (1, 1), t by hand below.
    answer = minimise_hinge(
        rows, offsets, l2=1.0, lower=-box, upper=box, inequalities=(np.array([[1.0, -1.0]]), np.array([3.0]))
    )
    # mean hinge + |w|^2 / 2 with w = (s, s - 3): 1 <= s: (4 - s) / 2 + (2 s^2 - 6 s + 9) / 2, smallest at 7 / 4.
    assert answer.weights == pytest.approx([1.75, -1.25], abs=1e-3)
    assert answer.objective == pytest.approx(2.25 / 2 + (1.75**2 + 1.25**2) / 2, rel=1e-6)
    assert answer.gap <= 1e-6 and answer.weights[0] - answer.weights[1] >= 3.0 - 1e-6


def test_fixed_weights_take_their_signs_from_the_rulebook(rules: Rulebook) -> None:
    """Guards: an ablation that rewards bad propositions, or pretends to be an optimum."""
    config = WeightsConfig(method=FitMethod.FIXED, fixed=10.0)
    fitted = fit_weights([examples()], rules, config)
    assert fitted.for_type(COMPLY) == {
        "kind": 10.0,
        "rude": -10.0,
        "class:best": 10.0,
        "class:middle": 0.0,
        "class:worst": -10.0,
    }
    assert fitted.fits[COMPLY].gap is None


def test_rules_alone_ignore_the_reward_model(rules: Rulebook) -> None:
    """Guards: the ablation without a reward model still fitted against its scores."""
    config = WeightsConfig(reward_model=False, l2=1e-3)
    first = fit_weights([examples()], rules, config)
    second = fit_weights([replace(examples(), reward_model=100.0 * examples().reward_model)], rules, config)
    assert first.by_type == second.by_type


def test_a_larger_margin_for_one_pair_of_classes_widens_its_gap(rules: Rulebook) -> None:
    """Guards: margins given and not used."""
    data = replace(examples(noise=0.0), reward_model=np.zeros(240))
    config = WeightsConfig(holdout=0.0, l2=0.0, margins={"best>worst": 3.5})
    w = fit_weights([data], rules, config).vector(COMPLY, NAMES)
    reward = data.features.values @ w
    assert reward[0] - reward[2] == pytest.approx(3.5, rel=1e-3)
    assert min(reward[0] - reward[1], reward[1] - reward[2]) >= 1.0 - 1e-6


@pytest.mark.parametrize(
    "changes",
    [
        {"margins": {"worst>best": 1.0}},
        {"margins": {"worst/best": 1.0}},
        {"margins": {"best": 1.0}},
        {"margins": {"best>worst": -1.0}},
    ],
)
def test_margins_of_unknown_pairs_are_refused(changes: dict[str, Any], rules: Rulebook) -> None:
    """Guards: a typo in a class name that leaves the default margin in place."""
    with pytest.raises(InputError, match=r"weights\.margins"):
        fit_weights([examples()], rules, WeightsConfig(**changes))


def test_margins_are_written_with_a_slash_on_the_command_line() -> None:
    """Guards: margins that no one can set, since a key there holds no '>'."""
    config = compose_command("w", WeightsConfig, ["+margins={best/worst:2.5,best/middle:1}"])
    assert config.margins == {"best>worst": 2.5, "best>middle": 1.0}


@pytest.mark.parametrize(
    "changes",
    [{"l2": -1.0}, {"holdout": 1.0}, {"holdout": float("nan")}, {"max_weight": 0.0}, {"margin": -0.5}],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    """Guards: a negative L2 term, whose problem has no optimum."""
    with pytest.raises(InputError, match=next(iter(changes))):
        WeightsConfig(**changes)


def test_a_tree_shares_its_reward_along_the_path() -> None:
    """Guards: contributions that do not add up to the leaf, or that go to the wrong feature.

    Root 0; left of kind <= .5 is worth -1; right is worth 1, and there rude <= .5 is 2, else -3.
    """
    tree = RegressionTree(
        (0, -2, 1, -2, -2), (0.5, -2, 0.5, -2, -2), (1, -1, 3, -1, -1), (2, -1, 4, -1, -1), (0, -1, 1, 2, -3)
    )
    found = tree.contributions(np.array([[0.2, 0.9], [0.9, 0.2], [0.9, 0.9]]))
    assert found.tolist() == [[-1.0, 0.0], [1.0, 1.0], [1.0, -4.0]]
    holed = TreeEnsemble(("kind", "rude"), (tree,)).contributions(np.array([[0.2, np.nan]]))
    assert np.isnan(holed).all()


def test_trees_learn_what_weights_cannot(rules: Rulebook, tmp_path: Path) -> None:
    """Guards: boosting against the gradient, and trees that come back from the file as others.

    The better response has exactly one of two traits (an exclusive or): no weights can rank that.
    """
    rng = np.random.default_rng(0)
    flags = rng.random((400, 2)) < 0.5
    flags[::2, 1] = ~flags[::2, 0]
    flags[1::2, 1] = flags[1::2, 0]
    values = np.column_stack([flags, np.full((400, 3), 1 / 3)]).astype(float)
    data = FitExamples(
        COMPLY,
        tuple(f"p{i // 2}" for i in range(400)),
        tuple(ORDER[i % 2] for i in range(400)),
        np.arange(400) % 2,
        Features(NAMES, values),
        np.zeros(400),
    )
    linear = fit_weights([data], rules, WeightsConfig(holdout=0.0)).fits[COMPLY]
    fitted = fit_weights([data], rules, WeightsConfig(holdout=0.0, method=FitMethod.BOOSTED))
    assert linear.hinge > 0.8 and fitted.fits[COMPLY].hinge < 1e-9
    save_weights(fitted, tmp_path / "trees.json")
    loaded = load_weights(tmp_path / "trees.json", rules)
    assert loaded == fitted
    reward = loaded.contributions(COMPLY, data.features).sum(axis=1)
    assert (reward[::2] - reward[1::2]).min() >= 1.0 - 1e-9
    assert fitted.fits[COMPLY].gap is None and fitted.uses(COMPLY, "kind")


def test_damaged_trees_are_refused(rules: Rulebook, tmp_path: Path) -> None:
    """Guards: a child that points back at its parent, which never ends."""
    path = tmp_path / "trees.json"
    config = WeightsConfig(method=FitMethod.BOOSTED, trees=2)
    save_weights(fit_weights([examples()], rules, config), path)
    for edit in (
        lambda ensemble: ensemble["trees"][0]["left"].__setitem__(0, 0),
        lambda ensemble: ensemble["trees"][0]["value"].pop(),
        lambda ensemble: ensemble["trees"][0]["feature"].__setitem__(0, 9),
        lambda ensemble: ensemble.pop("trees"),
    ):
        content = json.loads(path.read_text())
        edit(content["trees"]["comply"])
        (tmp_path / "edited.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match="does not describe trees"):
            load_weights(tmp_path / "edited.json", rules)
    content = json.loads(path.read_text())
    content["trees"]["comply"]["features"].reverse()
    (tmp_path / "edited.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="misplaced feature"):
        load_weights(tmp_path / "edited.json", rules)


# --- data ------------------------------------------------------------------------------------


def test_prompts_are_split_never_pairs() -> None:
    """Guards: the released recipe's split over pairs, which shows held-out prompts to the fit."""
    fit, held = split_by_prompt(examples(), 0.25, seed=0)
    assert not set(fit.prompts) & set(held.prompts)
    assert len(set(held.prompts)) == 15 and len(fit) + len(held) == 240
    assert len(fit.features.values) == len(fit.rank) == len(fit.reward_model) == len(fit)


def test_the_split_depends_on_ids_and_seed_alone() -> None:
    """Guards: a split that changes with the order of the file, or with its length for most prompts."""
    ids = [f"p{i}" for i in range(100)]
    assert held_out(ids, 0.2, 0) == held_out(ids[::-1] * 2, 0.2, 0) != held_out(ids, 0.2, 1)
    assert len(held_out(ids, 0.2, 0)) == 20 and held_out(ids, 0.0, 0) == frozenset()
    moved = held_out(ids, 0.2, 0) - held_out([*ids, "new"], 0.2, 0)
    assert len(moved) <= 1


def test_unscored_responses_are_left_out_and_counted(rules: Rulebook) -> None:
    """Guards: NaN in the objective, or an unscored row taken for zeros."""
    whole = examples()
    values, scores = whole.features.values.copy(), whole.reward_model.copy()
    values[0], scores[5] = np.nan, np.nan
    holed = replace(whole, features=Features(NAMES, values, {0: "time-out"}), reward_model=scores)
    report = fit_weights([holed], rules, WeightsConfig(holdout=0.0)).fits[COMPLY]
    keep = np.ones(240, dtype=bool)
    keep[[0, 5]] = False
    cut = fit_weights([whole.select(keep)], rules, WeightsConfig(holdout=0.0)).fits[COMPLY]
    assert (report.dropped, report.responses) == (2, 238)
    assert report.objective == cut.objective


def test_examples_come_back_from_their_file(tmp_path: Path) -> None:
    """Guards: an unscored response that comes back as a number, and digits lost on the way."""
    data = examples(prompts=5)
    values, scores = data.features.values.copy(), data.reward_model.copy()
    values[3], scores[4] = np.nan, np.nan
    data = replace(data, features=Features(NAMES, values, {3: "late"}), reward_model=scores)
    save_examples([data], tmp_path / "examples.jsonl")
    (back,) = load_examples(tmp_path / "examples.jsonl")
    assert (back.response_type, back.prompts, back.classes) == (COMPLY, data.prompts, data.classes)
    assert back.features.names == NAMES and back.features.reasons == {3: "late"}
    np.testing.assert_array_equal(back.features.values, values)
    np.testing.assert_array_equal(back.reward_model, scores)
    np.testing.assert_array_equal(back.rank, data.rank)


def test_select_carries_reasons_along() -> None:
    """Guards: reasons that point at other rows after a split."""
    data = examples(prompts=2)
    data = replace(data, features=Features(NAMES, data.features.values, {5: "late"}))
    assert data.select(np.array([1, 5])).features.reasons == {1: "late"}


def test_labels_become_examples_by_type_and_class(rules: Rulebook) -> None:
    """Guards: grades or scores of another row, a given class overruled, prompts off the types mixed in."""
    comply, other = user_prompt("p", "q", COMPLY), user_prompt("n", "q")
    labelled = [
        LabelledResponse(Response(other, "x"), {}),
        LabelledResponse(Response(comply, "a"), {"kind": True, "rude": False}),
        LabelledResponse(Response(comply, "b"), {"kind": True, "rude": False}, "worst"),
    ]
    grades = Grades.of(("rude", "kind"), [[0.0, 0.0], [0.25, 0.5], [Unscored("no answer"), 1.0]])
    (made,) = fit_examples(rules, labelled, grades, np.array([9.0, 1.0, 2.0]))
    assert made.classes == ("best", "worst") and made.rank.tolist() == [0, 2]
    assert made.reward_model.tolist() == [1.0, 2.0] and made.prompts == ("p", "p")
    assert made.features.column("kind")[0] == 0.5 and made.features.reasons == {1: "rude: no answer"}
    odd = [LabelledResponse(Response(comply, "a"), {}, "splendid")]
    with pytest.raises(InputError, match="unknown completion class 'splendid'"):
        fit_examples(rules, odd, grades.rows([1]), np.zeros(1))


def test_data_without_an_ordered_pair_are_refused(rules: Rulebook) -> None:
    """Guards: weights of nothing."""
    with pytest.raises(InputError, match="no prompt of response type comply has two scored completions"):
        fit_weights([examples(per_prompt=1)], rules, WeightsConfig(holdout=0.0))


# --- the file --------------------------------------------------------------------------------


def test_a_file_gives_back_the_weights(rules: Rulebook, tmp_path: Path) -> None:
    """Guards: provenance or digits lost on the way through JSON."""
    fitted = fit_weights([examples()], rules, WeightsConfig(seed=4), grader="oracle", data="abc")
    save_weights(fitted, tmp_path / "weights.json")
    assert load_weights(tmp_path / "weights.json", rules) == fitted
    content = json.loads((tmp_path / "weights.json").read_text())
    assert (content["rulebook"], content["grader"], content["data"]) == (rules.digest, "oracle", "abc")
    assert content["config"]["method"] == "hinge" and content["fits"]["comply"]["held_out_prompts"] == 12


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.update(rulebook="0"), "the weights are for rulebook 0"),
        (
            lambda c: c["weights"]["comply"].pop("rude"),
            "missing or misplaced feature 'rude' among the weights of comply",
        ),
        (lambda c: c["weights"]["comply"].update(odd=1.0), "unknown feature 'odd'"),
        (lambda c: c["weights"]["comply"].update(rude=None), "None, not a finite number"),
        (lambda c: c["weights"]["comply"].update(rude=10**400), "a number of 401 digits"),
        (lambda c: c.update(trees=[]), "field 'trees': is missing or is not an object"),
        (lambda c: c.update(seed="x"), "field 'seed': is 'x', not a whole number"),
        (lambda c: c["weights"].update(obey={}), "unknown response type 'obey'"),
        (lambda c: c.update(format=0), "not a weights file of format 1"),
        (lambda c: c.update(weights=[]), "field 'weights': is missing or is not an object"),
        (lambda c: c["fits"].update(comply={"gap": 0}), "does not describe a fit"),
    ],
)
def test_weights_of_another_rulebook_or_other_features_are_refused(
    edit: Any, message: str, rules: Rulebook, tmp_path: Path
) -> None:
    """Guards: a reward paid by weights that mean something else."""
    path = tmp_path / "weights.json"
    save_weights(fit_weights([examples()], rules, WeightsConfig()), path)
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        load_weights(path, rules)
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_a_file_that_is_no_json_is_refused(rules: Rulebook, tmp_path: Path) -> None:
    """Guards: a traceback for a cut or absent file."""
    (tmp_path / "weights.json").write_text('{"format"')
    for name in ("weights.json", "absent.json"):
        with pytest.raises(InputError, match="cannot be read"):
            load_weights(tmp_path / name, rules)
