"""Features against numbers worked by hand."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from evals.rules.features import feature_names, features
from evals.rules.propositions import Proposition
from evals.rules.rulebook import Rulebook, load_rulebook
from evals.values.conversation import ResponseType
from evals.values.errors import InputError
from evals.values.grades import Grades, Unscored

SANDBOX = Path(__file__).parents[2] / "conf" / "rulebooks" / "sandbox.yaml"
COMPLY = ResponseType.COMPLY


@pytest.fixture
def rules() -> Rulebook:
    """good: kind. middle: not kind, not cruel. bad: cruel. kind = polite and not cruel."""
    return Rulebook(
        propositions={n: Proposition(n, f"is it {n} ?") for n in ("polite", "cruel", "spare")},
        derived={"kind": {"polite": True, "cruel": False}},
        classes={
            "good": {COMPLY: {"kind": True}},
            "middle": {COMPLY: {"kind": False, "cruel": False}},
            "bad": {COMPLY: {"cruel": True}},
        },
        class_order=("good", "middle", "bad"),
    )


def test_class_features_by_hand(rules: Rulebook) -> None:
    """Guards: the complement of a derived proposition taken literal by literal; a missing normalisation.

    P(kind) = .9 * .8 = .72; raw classes .72, (1 - .72) * .8 = .224, .2; their sum is 1.144.
    """
    found = features(rules, COMPLY, Grades.of(("polite", "cruel"), [[0.9, 0.2]]))
    assert found.names == ("polite", "cruel", "class:good", "class:middle", "class:bad")
    np.testing.assert_allclose(
        found.values, [[0.9, 0.2, 0.72 / 1.144, 0.224 / 1.144, 0.2 / 1.144]], rtol=1e-12
    )
    np.testing.assert_allclose(found.column("class:bad"), 0.2 / 1.144)


def test_a_derived_proposition_inside_another_is_expanded(rules: Rulebook) -> None:
    """Guards: nesting: outer = not kind and spare, P = (1 - .72) * .5."""
    rules.derived["outer"] = {"kind": False, "spare": True}
    grades = {name: np.array([p]) for name, p in (("polite", 0.9), ("cruel", 0.2), ("spare", 0.5))}
    assert rules.expand("outer").probability(grades)[0] == pytest.approx(0.28 * 0.5)
    assert rules.expand({"outer": False}).probability(grades)[0] == pytest.approx(1 - 0.28 * 0.5)


def test_a_literal_that_two_parts_share_counts_once(rules: Rulebook) -> None:
    """Guards: P(not cruel) squared because both the class and a derived proposition name it."""
    condition = rules.expand({"kind": True, "cruel": False})
    assert condition.probability({"polite": np.array([0.9]), "cruel": np.array([0.2])})[0] == pytest.approx(
        0.72
    )
    never = rules.expand({"kind": True, "cruel": True})
    assert never.probability({"polite": np.array([0.9]), "cruel": np.array([0.2])})[0] == 0.0


@pytest.mark.parametrize("response_type", list(ResponseType))
def test_hard_grades_give_the_hard_class(response_type: ResponseType) -> None:
    """Guards: class features that disagree with `class_of` on certain grades."""
    rulebook = load_rulebook(SANDBOX)
    names = rulebook.propositions_for(response_type)
    rng = np.random.default_rng(0)
    hard = (rng.random((500, len(names))) < rng.random((500, 1))).astype(float)
    if len(names) <= 8:
        hard = np.array(list(product((0.0, 1.0), repeat=len(names))))
    found = features(rulebook, response_type, Grades(names, hard))
    assert not found.reasons
    classes = [name.removeprefix("class:") for name in found.names[len(names) :]]
    chosen = [classes[column] for column in found.values[:, len(names) :].argmax(axis=1)]
    truths = [dict(zip(names, row.astype(bool).tolist(), strict=True)) for row in hard]
    assert chosen == [rulebook.class_of(response_type, truth) for truth in truths]
    np.testing.assert_allclose(found.values[:, len(names) :].sum(axis=1), 1.0)


def test_an_unscored_proposition_makes_the_row_unscored_with_its_reason(rules: Rulebook) -> None:
    """Guards: a failed grade that becomes 0 or the class prior."""
    grades = Grades.of(("polite", "cruel"), [[0.9, 0.2], [Unscored("time-out"), 0.5], [0.1, 0.1]])
    found = features(rules, COMPLY, grades)
    assert found.reasons == {1: "polite: time-out"}
    assert np.isnan(found.values[1]).all() and np.isfinite(found.values[[0, 2]]).all()


def test_grades_that_rule_out_every_class_are_unscored() -> None:
    """Guards: 0 / 0 in the normalisation passing for a number."""
    gap = Rulebook(
        {n: Proposition(n, n) for n in "ab"},
        {},
        {"x": {COMPLY: {"a": True}}, "y": {COMPLY: {"b": True}}},
        ("x", "y"),
    )
    found = features(gap, COMPLY, Grades.of(("a", "b"), [[0.0, 0.0], [1.0, 0.0]]))
    assert found.reasons == {0: "the grades rule out every completion class"}
    assert found.values[1].tolist() == [1.0, 0.0, 1.0, 0.0]


def test_columns_are_found_by_name(rules: Rulebook) -> None:
    """Guards: grades in another order, or with more propositions, mixed up; a missing one ignored."""
    wide = Grades.of(("spare", "cruel", "polite"), [[0.3, 0.2, 0.9]])
    narrow = Grades.of(("polite", "cruel"), [[0.9, 0.2]])
    np.testing.assert_array_equal(
        features(rules, COMPLY, wide).values, features(rules, COMPLY, narrow).values
    )
    with pytest.raises(InputError, match="lack proposition 'cruel'"):
        features(rules, COMPLY, Grades.of(("polite",), [[0.9]]))


def test_no_responses_give_no_rows() -> None:
    """Guards: an empty batch that fails in a reduction."""
    rulebook = load_rulebook(SANDBOX)
    names = rulebook.propositions_for(COMPLY)
    found = features(rulebook, COMPLY, Grades(names, np.zeros((0, len(names)))))
    assert found.values.shape == (0, len(feature_names(rulebook, COMPLY)))
