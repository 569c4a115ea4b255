"""The rules as a term of the reward: weights times features, graded as far as a weight uses them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evals.graders import Grader
from evals.graders.own_questions import asked_together, question_scores
from evals.rules.features import Features, feature_names, features
from evals.rules.rulebook import Rulebook
from evals.rules.rulebook_file import CLASS_PREFIX, QUESTIONS
from evals.values.conversation import Response, ResponseType, types_in_order
from trainers.reward.kinds import RULE_BASED
from trainers.reward.reward import Breakdown
from trainers.reward.reward_weights import RewardWeights, check_weights


class RuleBasedTerm:
    """sum_i w_i phi_i with the weights of the response's type; 0 on prompts without a response type.

    Only what the type's weights use is graded, the questions that a prompt brings along with it. Raises InputError
    when the weights belong to another rulebook, or lack a response type that is asked for.
    """

    def __init__(self, rulebook: Rulebook, grader: Grader, weights: RewardWeights) -> None:
        check_weights(weights, rulebook)
        self.rulebook, self.grader, self.weights = rulebook, grader, weights
        self.expect = self._expect if getattr(grader, "expect", None) is not None else None

    def _expect(self, responses: Sequence[Response]) -> None:
        """The grader may begin with what it will be asked."""
        for response_type, rows in _rows_by_type(responses).items():
            asked = [self.rulebook.propositions[name] for name in self.used_propositions(response_type)]
            some = [responses[row] for row in rows]
            self.grader.expect(some, asked)  # type: ignore[attr-defined]
            for group in asked_together(some) if self._asks(response_type) else ():
                own = [some[row] for row in group.rows]
                self.grader.expect(own, group.propositions)  # type: ignore[attr-defined]

    def _asks(self, response_type: ResponseType) -> bool:
        """Whether the prompts' own questions are paid."""
        return response_type in self.rulebook.prompt_questions and self.weights.uses(response_type, QUESTIONS)

    def __call__(self, responses: Sequence[Response]) -> Breakdown:
        total = np.zeros(len(responses))
        contributions: dict[str, np.ndarray] = {}
        reasons: dict[int, str] = {}
        for response_type, rows in _rows_by_type(responses).items():
            part = self._features(response_type, [responses[row] for row in rows])
            weighted = self.weights.contributions(response_type, part)
            total[rows] = weighted.sum(axis=1)
            for column, name in enumerate(part.names):
                contributions.setdefault(name, np.full(len(responses), np.nan))[rows] = weighted[:, column]
            reasons |= {rows[row]: why for row, why in part.reasons.items()}
        return Breakdown(total, {RULE_BASED: total}, contributions, dict(sorted(reasons.items())))

    def used_propositions(self, response_type: ResponseType) -> tuple[str, ...]:
        """Propositions whose own weight is not 0; all of the type's as soon as one class weight is not."""
        names = self.rulebook.propositions_for(response_type)
        classes = (n for n in feature_names(self.rulebook, response_type) if n.startswith(CLASS_PREFIX))
        if any(self.weights.uses(response_type, name) for name in classes):
            return names
        return tuple(name for name in names if self.weights.uses(response_type, name))

    def paying_grades(self, responses: Sequence[Response]) -> dict[str, np.ndarray]:
        """P(true) by proposition [responses]; NaN where it is unscored, or pays nothing on the response's type."""
        found: dict[str, np.ndarray] = {}
        for response_type, rows in _rows_by_type(responses).items():
            if response_type not in self.weights.response_types:
                continue
            names = self.used_propositions(response_type)
            asked = [self.rulebook.propositions[name] for name in names]
            grades = self.grader.grade([responses[row] for row in rows], asked)
            for column, name in enumerate(names):
                of_name = found.setdefault(name, np.full(len(responses), np.nan))
                of_name[rows] = grades.probability[:, column]
        return found

    def _features(self, response_type: ResponseType, responses: Sequence[Response]) -> Features:
        names = self.used_propositions(response_type)
        grades = self.grader.grade(responses, [self.rulebook.propositions[name] for name in names])
        own = question_scores(self.grader, responses) if self._asks(response_type) else None
        if names == self.rulebook.propositions_for(response_type):
            return features(self.rulebook, response_type, grades, own)
        values = grades.probability.copy()
        reasons: dict[int, str] = {}
        for (row, column), why in sorted(grades.reasons.items()):
            reasons.setdefault(row, f"{names[column]}: {why}")
        if own is not None:
            names, values = (*names, QUESTIONS), np.column_stack([values, own.values])
            reasons = dict(sorted((own.reasons | reasons).items()))
        values[sorted(reasons)] = np.nan
        return Features(names, values, reasons)


def _rows_by_type(responses: Sequence[Response]) -> dict[ResponseType, list[int]]:
    groups: dict[ResponseType, list[int]] = {}
    for row, response in enumerate(responses):
        if response.prompt.response_type is not None:
            groups.setdefault(response.prompt.response_type, []).append(row)
    return {t: groups[t] for t in types_in_order(groups)}
