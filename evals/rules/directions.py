"""Whether a proposition makes a response better or worse: what the completion classes of a response type say of it.

A proposition may be good in one response type and bad in another: that an answer complies is what is wanted on a
prompt to answer, and a fault on one to refuse. So its sign cannot always be declared once; the classes know it.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, product

from evals.rules.check import Steps, TooManySteps, contradict, find_truth
from evals.rules.propositions import Condition, Polarity, Proposition
from evals.rules.rulebook import Rulebook
from evals.values.conversation import ResponseType
from evals.values.levels import Label


def polarities(rulebook: Rulebook, kind: ResponseType) -> dict[str, Polarity]:
    """By proposition of `kind`: as it is declared; where it is neutral, as the classes of `kind` say.

    Good is what, where it holds or is at a higher level, never moves a response to a worse class and may move it to a
    better one, whatever else holds; bad the other way round. What does both, or nothing, stays neutral, as does what
    would take too long to search.
    """
    found = {name: rulebook.propositions[name].polarity for name in rulebook.propositions_for(kind)}
    conditions, steps = rulebook.conditions_for(kind), Steps()
    try:
        for name in (name for name, polarity in found.items() if polarity is Polarity.NEUTRAL):
            found[name] = _direction(conditions, rulebook.propositions[name], steps)
    except TooManySteps:
        pass
    return found


def _direction(conditions: Mapping[str, Condition], proposition: Proposition, steps: Steps) -> Polarity:
    """`conditions` from the best class to the worst."""
    labels: tuple[Label, ...] = proposition.levels or (False, True)
    known = [proposition.truths(label) for label in labels]
    given = [[_given(condition, truths) for condition in conditions.values()] for truths in known]
    moves = list(product(combinations(given, 2), combinations(range(len(conditions)), 2)))
    rises = any(_both(more[better], less[worse], steps) for (less, more), (better, worse) in moves)
    falls = any(_both(less[better], more[worse], steps) for (less, more), (better, worse) in moves)
    if rises is falls:
        return Polarity.NEUTRAL
    return Polarity.GOOD if rises else Polarity.BAD


def _both(one: Condition, other: Condition, steps: Steps) -> bool:
    """Whether the two can hold together."""
    if contradict(one, other):
        return False
    return find_truth([(one, True), (other, True)], steps) is not None


def _given(condition: Condition, truths: Mapping[str, bool]) -> Condition:
    """The condition where the truths of some literals are known."""
    literals = {name: wanted for name, wanted in condition.literals.items() if name not in truths}
    refuted = any(truths.get(name, wanted) is not wanted for name, wanted in condition.literals.items())
    negated = tuple(_given(part, truths) for part in condition.negated)
    return Condition(literals, negated, condition.contradictory or refuted)
