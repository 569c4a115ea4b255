"""The review of a rulebook: overlaps, gaps and rules that nothing uses, each with its example."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

import pytest

from evals.rules.check import check_rulebook, find_truth, require_sound
from evals.rules.diff import reclassifications, text_changes
from evals.rules.propositions import Proposition
from evals.rules.rulebook import Rulebook, load_rulebook
from evals.values.conversation import ResponseType
from evals.values.errors import InputError

SANDBOX = Path(__file__).parents[2] / "conf" / "rulebooks" / "sandbox.yaml"
RELEASED = Path(__file__).parents[3] / "shared" / "data" / "openai-rbr"
COMPLY = ResponseType.COMPLY


@pytest.fixture(scope="module")
def released_rulebook() -> Rulebook:
    path = RELEASED / "proposition_prompts.yaml"
    if not path.is_file():
        pytest.skip("the released rulebook (data folder beside the checkout) is absent")
    return load_rulebook(path)


def rulebook(
    classes: dict[str, dict[str, bool]], derived: dict[str, dict[str, bool]] | None = None, names: str = "abc"
) -> Rulebook:
    return Rulebook(
        propositions={name: Proposition(name, f"is it {name} ?") for name in names},
        derived=derived or {},
        classes={name: {COMPLY: condition} for name, condition in classes.items()},
        class_order=tuple(classes),
    )


def test_sound_classes_have_no_finding() -> None:
    """Guards: an overlap reported for classes that a nested negation keeps apart."""
    rules = rulebook(
        {"x": {"d": True}, "y": {"d": False, "c": True}, "z": {"d": False, "c": False}},
        {"d": {"a": True, "e": False}, "e": {"b": True, "c": True}},
    )
    assert check_rulebook(rules) == []
    require_sound(rules)


def test_an_overlap_and_a_gap_come_with_an_example() -> None:
    """Guards: findings that leave the reader to search for the combination."""
    rules = rulebook({"x": {"a": True}, "y": {"b": True, "c": True}})
    overlap, gap = check_rulebook(rules)
    assert (overlap.kind, gap.kind) == ("overlap", "gap")
    assert dict(overlap.example) == {"a": True, "b": True, "c": True}
    assert gap.example["a"] is False and not (gap.example.get("b") and gap.example.get("c"))
    with pytest.raises(InputError, match="overlap, for example when a true, b true, c true"):
        require_sound(rules)


def test_a_class_that_cannot_hold_is_found() -> None:
    """Guards: a contradiction hidden in a derived proposition."""
    rules = rulebook({"x": {"a": True}, "y": {"a": False}, "z": {"d": True, "a": False}}, {"d": {"a": True}})
    kinds = {finding.kind: finding.problem for finding in check_rulebook(rules)}
    assert kinds["empty"] == "class 'z' of comply can never hold"


def test_unused_propositions_and_repeated_questions_are_warnings() -> None:
    """Guards: a rule that everyone believes to be at work and that no class reads."""
    rules = rulebook({"x": {"a": True}, "y": {"a": False}}, {"d": {"b": True}}, names="ab")
    rules.propositions["b"] = Proposition("b", "Is it  A ?")
    findings = check_rulebook(rules)
    assert [f.kind for f in findings] == ["unused", "unused", "same question"]
    assert not any(f.is_error for f in findings)


@pytest.mark.parametrize("seed", range(40))
def test_the_search_agrees_with_the_full_truth_table(seed: int) -> None:
    """Guards: pruning that loses an overlap or a gap, or invents one."""
    rng = random.Random(seed)
    names = "abcd"

    def draw(pool: list[str]) -> dict[str, bool]:
        return {name: rng.random() < 0.5 for name in rng.sample(pool, rng.randint(1, 3))}

    derived = {"p": draw(list(names))}
    derived["q"] = draw([*names, "p"])
    classes = {name: draw([*names, "p", "q"]) for name in "xyz"}
    rules = rulebook(classes, derived, names)
    conditions = rules.conditions_for(COMPLY)
    table = [dict(zip(names, values, strict=True)) for values in product((True, False), repeat=4)]

    def holds(name: str, truth: dict[str, bool]) -> bool:
        body = {**derived, **classes}.get(name)
        return truth[name] if body is None else all(holds(n, truth) is wanted for n, wanted in body.items())

    held = [{name for name in classes if holds(name, truth)} for truth in table]
    assert [{n for n, c in conditions.items() if c.decide(truth)} for truth in table] == held
    found = check_rulebook(rules)
    assert any(f.kind == "gap" for f in found) == any(not h for h in held)
    assert any(f.kind == "overlap" for f in found) == any(len(h) > 1 for h in held)
    for finding in found:
        rows = [h for truth, h in zip(table, held, strict=True) if finding.example.items() <= truth.items()]
        if finding.kind == "gap":
            assert all(not h for h in rows)
        if finding.kind == "overlap":
            assert all(len(h) > 1 for h in rows)


def test_forty_propositions_are_searched_at_once() -> None:
    """Guards: enumeration of 2^40 truth assignments."""
    names = [f"n{i}" for i in range(40)]
    rules = Rulebook(
        {name: Proposition(name, name) for name in names},
        {"all": dict.fromkeys(names, True)},
        {"x": {COMPLY: {"all": True}}, "y": {COMPLY: {"all": False}}},
        ("x", "y"),
    )
    assert check_rulebook(rules) == []
    assert find_truth([(rules.expand("all"), True)]) == dict.fromkeys(names, True)


def test_the_sandbox_rulebook_is_sound() -> None:
    """Guards: sandbox classes that stop being exclusive and exhaustive."""
    assert check_rulebook(load_rulebook(SANDBOX)) == []


def test_the_released_rulebook_is_sound_but_for_two_unused(released_rulebook: Rulebook) -> None:
    """Guards: false alarms on the file that every reader knows."""
    found = check_rulebook(released_rulebook)
    assert [(f.kind, f.line) for f in found] == [("unused", 713), ("unused", 754)]
    assert "conditional_verbiage" in found[0].problem and "prescribes_dosage" in found[1].problem


def test_a_diff_names_the_edit_and_who_moves() -> None:
    """Guards: a diff of text alone, which does not show what a changed rule does to responses."""
    old = rulebook({"x": {"a": True}, "y": {"a": False}}, names="ab")
    new = rulebook(
        {"x": {"a": True, "b": True}, "y": {"d": False}}, {"d": {"a": True, "b": True}}, names="ab"
    )
    changes = {change.what: change for change in text_changes(old, new)}
    assert changes["class x of comply"].lines == ("+ b",)
    assert changes["derived proposition d"].sign == "+"
    (move,) = reclassifications(old, new)
    assert (move.before, move.after, dict(move.example)) == ("x", "y", {"a": True, "b": False})
    assert text_changes(old, old) == [] and reclassifications(old, old) == []
