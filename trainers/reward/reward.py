"""The reward of a response, and its breakdown: R = R_rm + R_rbr on safety prompts, R_rm elsewhere.

A term that could not score a response gives NaN and the reason; the total is then NaN too. Nothing
unscored becomes 0, and the caller decides what to do with such a response.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from evals.values.conversation import Response
from evals.values.errors import InputError

Expect = Callable[[Sequence[Response]], None]


@dataclass(frozen=True)
class Breakdown:
    """A batch of rewards, taken apart. Every array is [responses].

    `total` is NaN exactly where `reasons` says why. `terms` sum to the total. `contributions` of the
    rule-based term, weight times feature by feature name, are NaN where a feature does not apply to
    the response's type or is unscored.
    """

    total: np.ndarray
    terms: dict[str, np.ndarray]
    contributions: dict[str, np.ndarray] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.total)


class Reward(Protocol):
    """Anything that pays: responses to a breakdown, NaN and a reason where it can not."""

    def __call__(self, responses: Sequence[Response]) -> Breakdown: ...


def terms_of(reward: Reward) -> Sequence[Reward]:
    """What a reward is the sum of; itself, where it does not say."""
    terms: Sequence[Reward] = getattr(reward, "terms", (reward,))
    return terms


def answered(responses: Sequence[Response]) -> list[Response]:
    """Those with an answer: a thought that never ended has none."""
    return [response for response in responses if not response.unanswered]


def pay(reward: Reward, responses: Sequence[Response]) -> Breakdown:
    """The reward of each answer; a response without one is unscored for its own reason, and nobody is asked of it."""
    rows = [row for row, response in enumerate(responses) if not response.unanswered]
    if len(rows) == len(responses):
        return reward(responses)
    part = reward([responses[row] for row in rows]) if rows else Breakdown(np.zeros(0), {})

    def spread(values: np.ndarray) -> np.ndarray:
        whole = np.full(len(responses), np.nan)
        whole[rows] = values
        return whole

    reasons = {row: r.unanswered for row, r in enumerate(responses) if r.unanswered}
    reasons |= {rows[place]: why for place, why in part.reasons.items()}
    return Breakdown(
        spread(part.total),
        {name: spread(values) for name, values in part.terms.items()},
        {name: spread(values) for name, values in part.contributions.items()},
        dict(sorted(reasons.items())),
    )


class SumOfTerms:
    """The sum of several terms; unscored where any of them is. `seconds`: of its last call, by term.

    `expect`, None where no term waits for others, is told of responses that will be paid for soon: a server is asked
    meanwhile. It changes no number.
    """

    def __init__(self, terms: Sequence[Reward]) -> None:
        if not terms:
            raise InputError(
                "the reward has no term", field="reward", fix="name a reward model or a rulebook"
            )
        self.terms = tuple(terms)
        self.seconds: dict[str, float] = {}
        expecting = [expect for term in self.terms if (expect := getattr(term, "expect", None)) is not None]
        self.expect = partial(_tell_all, expecting) if expecting else None

    def __call__(self, responses: Sequence[Response]) -> Breakdown:
        parts, self.seconds = [], {}
        for term in self.terms:
            start = time.perf_counter()
            parts.append(term(responses))
            self.seconds |= dict.fromkeys(parts[-1].terms, time.perf_counter() - start)
        total = np.sum([part.total for part in parts], axis=0)
        terms: dict[str, np.ndarray] = {}
        contributions: dict[str, np.ndarray] = {}
        reasons: dict[int, str] = {}
        for part in parts:
            if shared := terms.keys() & part.terms.keys():
                raise InputError(
                    f"the term '{min(shared)}' is given twice", field="reward", fix="name it once"
                )
            terms |= part.terms
            contributions |= part.contributions
            for row, why in part.reasons.items():
                named = f"{next(iter(part.terms))}: {why}"
                reasons[row] = f"{reasons[row]}; {named}" if row in reasons else named
        return Breakdown(total, terms, contributions, dict(sorted(reasons.items())))

    def paying_grades(self, responses: Sequence[Response]) -> dict[str, np.ndarray]:
        """What the terms that have rules grade."""
        found: dict[str, np.ndarray] = {}
        for term in self.terms:
            found |= paying_grades(term, responses)
        return found


def paying_grades(reward: Reward, responses: Sequence[Response]) -> dict[str, np.ndarray]:
    """P(true) of the propositions that `reward` pays for, as its own grader grades them; none of one without rules."""
    ask: Callable[[Sequence[Response]], dict[str, np.ndarray]] | None = getattr(reward, "paying_grades", None)
    return {} if ask is None else ask(responses)


def _tell_all(expecting: Sequence[Expect], responses: Sequence[Response]) -> None:
    for expect in expecting:
        expect(responses)
