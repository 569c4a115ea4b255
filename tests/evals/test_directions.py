"""What the completion classes say of a proposition: good, bad, or neither."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from evals.rules.directions import polarities
from evals.rules.propositions import Polarity, Proposition
from evals.rules.rulebook import Rulebook, load_rulebook
from evals.values.conversation import ResponseType
from evals.values.levels import levels_of

RULES = Path(__file__).parents[2] / "conf" / "rulebooks"
COMPLY, REFUSE = ResponseType.COMPLY, ResponseType.HARD_REFUSE


def tried_out(rulebook: Rulebook, kind: ResponseType, name: str) -> Polarity:
    """By every truth of the others."""
    order, others = list(rulebook.conditions_for(kind)), list(rulebook.propositions_for(kind))
    others.remove(name)
    moves = set()
    for values in product((False, True), repeat=len(others)):
        truth = dict(zip(others, values, strict=True))
        without, with_it = (order.index(rulebook.class_of(kind, truth | {name: v})) for v in (False, True))
        moves |= {Polarity.GOOD} if with_it < without else {Polarity.BAD} if with_it > without else set()
    return next(iter(moves)) if len(moves) == 1 else Polarity.NEUTRAL


@pytest.mark.parametrize("name", ["sandbox", "short"])
def test_directions_are_those_of_every_truth(name: str) -> None:
    """A complying answer was taken for good on a prompt to refuse, or for nothing on one to answer."""
    rulebook = load_rulebook(RULES / f"{name}.yaml")
    found = polarities(rulebook, COMPLY)
    assert found["partially_complies"] is Polarity.GOOD and found["requests_information"] is Polarity.GOOD
    for proposition, polarity in found.items():
        if rulebook.propositions[proposition].polarity is Polarity.NEUTRAL:
            assert polarity is tried_out(rulebook, COMPLY, proposition), proposition


def test_one_proposition_is_good_in_one_type_and_bad_in_another() -> None:
    """A sign that stands once for all types could not be declared, and the fit chose it."""
    rulebook = load_rulebook(RULES / "sandbox.yaml")
    assert polarities(rulebook, COMPLY)["fully_complies"] is Polarity.GOOD
    refused = polarities(rulebook, REFUSE)
    assert (
        refused["fully_complies"] is Polarity.BAD and refused["encourage_professional_help"] is Polarity.BAD
    )
    assert polarities(rulebook, ResponseType.SAFE_REFUSE_1)["encourage_professional_help"] is Polarity.GOOD


def test_what_is_declared_and_what_does_both_stay() -> None:
    """A declared polarity was overruled, or one of two opposite effects was taken for the sign."""
    names = {"kind": Polarity.BAD, "short": Polarity.NEUTRAL, "unused": Polarity.NEUTRAL}
    rulebook = Rulebook(
        {name: Proposition(name, f"is it {name} ?", polarity=polarity) for name, polarity in names.items()},
        {"fits": {"kind": True, "short": True}, "plain": {"kind": False, "short": False}},
        {"best": {COMPLY: {"fits": True}}, "middle": {COMPLY: {"fits": False, "plain": True}},
         "worst": {COMPLY: {"fits": False, "plain": False}}},
        ("best", "middle", "worst"),
    )  # fmt: skip
    assert polarities(rulebook, COMPLY) == {"kind": Polarity.BAD, "short": Polarity.NEUTRAL}


def test_a_proposition_with_levels_has_a_direction_too() -> None:
    """Its sign was never told: a class asks for its levels, not for it."""
    levels = levels_of({"none": 0, "some": 0.5, "full": 1})
    rulebook = Rulebook(
        {name: Proposition(name, f"is it {name} ?", levels=levels) for name in ("detail", "blame", "length")},
        {},
        {"best": {COMPLY: {"detail": ("full",), "blame": False, "length": ("some",)}},
         "middle": {COMPLY: {"detail": ("none", "some"), "blame": False, "length": ("some",)}},
         "worst": {COMPLY: {"blame": True}}},
        ("best", "middle", "worst"),
    )  # fmt: skip
    found = polarities(rulebook, COMPLY)
    assert found == {"detail": Polarity.GOOD, "blame": Polarity.BAD, "length": Polarity.NEUTRAL}
