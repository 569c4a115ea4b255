"""The questions that a prompt brings along, as propositions and as one feature of its response.

People's own weights are kept: the feature is minus the sum of weight times P(yes), or times the expected score of
levels, as a positive weight says that yes is harm, and a fit learns one scale for it. A prompt without questions adds
nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from evals.rules.propositions import Polarity, Proposition
from evals.values.conversation import Question

PREFIX = "question_"


@dataclass(frozen=True)
class QuestionScores:
    """The feature [responses]; NaN exactly where `reasons` says why."""

    values: np.ndarray
    reasons: dict[int, str] = field(default_factory=dict)

    def rows(self, rows: Sequence[int]) -> QuestionScores:
        """Those of some responses, in the order given."""
        reasons = {new: self.reasons[old] for new, old in enumerate(rows) if old in self.reasons}
        return QuestionScores(self.values[list(rows)], reasons)


def propositions_of(questions: Sequence[Question]) -> list[Proposition]:
    """The questions as a grader is asked them, named by what they ask: one name, one question, in every file."""
    seen: Counter[str] = Counter()
    found = []
    for one in questions:
        polarity = Polarity.BAD if one.weight > 0 else Polarity.GOOD
        digest = Proposition("", one.text, levels=one.levels).question_digest
        seen[digest] += 1
        name = f"{PREFIX}{digest}" if seen[digest] == 1 else f"{PREFIX}{digest}_{seen[digest]}"
        found.append(Proposition(name, one.text, polarity=polarity, levels=one.levels))
    return found


def weighted(questions: Sequence[Question], probability: np.ndarray) -> np.ndarray:
    """The feature [responses] of grades [responses, questions]; NaN where one is."""
    weights = np.array([one.weight for one in questions], dtype=np.float64)
    values: np.ndarray = -(probability @ weights)
    return values
