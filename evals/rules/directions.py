"""Whether a proposition makes a response better or worse: what the completion classes of a response type say of it.

A proposition may be good in one response type and bad in another: that an answer complies is what is wanted on a
prompt to answer, and a fault on one to refuse. So its sign cannot always be declared once; the classes know it.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from evals.rules.check import Steps, TooManySteps, contradict, find_truth
from evals.rules.propositions import Condition, Polarity
from evals.rules.rulebook import Rulebook
from evals.values.conversation import ResponseType


def polarities(rulebook: Rulebook, kind: ResponseType) -> dict[str, Polarity]:
    """By proposition of `kind`: as it is declared; where it is neutral, as the classes of `kind` say.

    Good is what never moves a response to a worse class and may move it to a better one, whatever else holds; bad the
    other way round. What does both, or nothing, stays neutral, as does what would take too long to search.
    """
    found = {name: rulebook.propositions[name].polarity for name in rulebook.propositions_for(kind)}
    conditions, steps = rulebook.conditions_for(kind), Steps()
    try:
        for name in (name for name, polarity in found.items() if polarity is Polarity.NEUTRAL):
            found[name] = _direction(conditions, name, steps)
    except TooManySteps:
        pass
    return found


def _direction(conditions: Mapping[str, Condition], name: str, steps: Steps) -> Polarity:
    """`conditions` from the best class to the worst."""
    false, true = (
        [_given(condition, name, value) for condition in conditions.values()] for value in (False, True)
    )
    places = list(combinations(range(len(conditions)), 2))
    rises = any(_both(true[better], false[worse], steps) for better, worse in places)
    falls = any(_both(false[better], true[worse], steps) for better, worse in places)
    if rises is falls:
        return Polarity.NEUTRAL
    return Polarity.GOOD if rises else Polarity.BAD


def _both(one: Condition, other: Condition, steps: Steps) -> bool:
    """Whether the two can hold together."""
    if contradict(one, other):
        return False
    return find_truth([(one, True), (other, True)], steps) is not None


def _given(condition: Condition, name: str, value: bool) -> Condition:
    """The condition where the truth of proposition `name` is known."""
    literals = {n: wanted for n, wanted in condition.literals.items() if n != name}
    refuted = condition.literals.get(name, value) is not value
    negated = tuple(_given(part, name, value) for part in condition.negated)
    return Condition(literals, negated, condition.contradictory or refuted)
