"""A grader asked what each response's prompt asks: one call for the responses that share their questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from evals.graders import Grader, grade_in_batches
from evals.rules.propositions import Proposition
from evals.rules.questions import QuestionScores, propositions_of, weighted
from evals.values.conversation import Question, Response
from evals.values.grades import Grades


@dataclass(frozen=True)
class AskedTogether:
    """Responses, by place, whose prompts ask the same."""

    rows: list[int]
    questions: tuple[Question, ...]
    propositions: list[Proposition]


def asked_together(responses: Sequence[Response]) -> Iterator[AskedTogether]:
    """Every response whose prompt brings questions along, once."""
    rows: dict[tuple[Question, ...], list[int]] = {}
    for row, response in enumerate(responses):
        if response.prompt.questions:
            rows.setdefault(response.prompt.questions, []).append(row)
    for questions, places in rows.items():
        yield AskedTogether(places, questions, propositions_of(questions))


def question_scores(grader: Grader, responses: Sequence[Response]) -> QuestionScores:
    """Of each response: 0 where its prompt asks nothing, NaN with the reason where a question is unscored."""
    values, reasons = np.zeros(len(responses)), dict[int, str]()
    for group, grades in graded_questions(grader, responses):
        values[group.rows] = weighted(group.questions, grades.probability)
        for (row, column), why in sorted(grades.reasons.items()):
            reasons.setdefault(group.rows[row], f"{group.questions[column].text}: {why}")
    return QuestionScores(values, dict(sorted(reasons.items())))


def graded_questions(
    grader: Grader, responses: Sequence[Response], progress: Callable[[int], None] | None = None
) -> Iterator[tuple[AskedTogether, Grades]]:
    """Each group with its grades [rows, questions]."""
    for group in asked_together(responses):
        chosen = [responses[row] for row in group.rows]
        yield group, grade_in_batches(grader, chosen, group.propositions, progress=progress)
