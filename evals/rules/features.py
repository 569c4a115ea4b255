"""From grades to features: proposition probabilities, or expected scores of levels, then class probabilities.

The class features follow the paper (arXiv 2411.01111): for each completion class the product of
the probabilities of its propositions, or of their complements, normalised over the classes of the
response type. On grades of exactly 0 and 1 they are the hard class.

A type whose prompts bring questions along has one feature more, what these say together (`evals.rules.questions`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from evals.rules.questions import QuestionScores
from evals.rules.rulebook import Rulebook
from evals.rules.rulebook_file import CLASS_PREFIX, QUESTIONS
from evals.values.conversation import ResponseType
from evals.values.errors import InputError
from evals.values.grades import Grades


@dataclass(frozen=True)
class Features:
    """`values` [responses, features]; a row is NaN exactly where `reasons` says why."""

    names: tuple[str, ...]
    values: np.ndarray
    reasons: dict[int, str] = field(default_factory=dict)

    def column(self, name: str) -> np.ndarray:
        """One feature [responses]."""
        return self.values[:, self.names.index(name)]


def feature_names(rulebook: Rulebook, response_type: ResponseType) -> tuple[str, ...]:
    """`"apology"`, ..., `"class:ideal"`, ...: the propositions in file order, classes best first; last, where the
    type's prompts bring questions along, QUESTIONS.
    """
    classes = tuple(CLASS_PREFIX + name for name in rulebook.conditions_for(response_type))
    own = (QUESTIONS,) if response_type in rulebook.prompt_questions else ()
    return rulebook.propositions_for(response_type) + classes + own


def features(
    rulebook: Rulebook, response_type: ResponseType, grades: Grades, asked: QuestionScores | None = None
) -> Features:
    """Features of responses that all have this response type, [responses, features].

    `asked` is what the prompts' own questions say, of a type that has them; without it that feature is left out.

    A response with an unscored proposition, or whose grades rule out every class, becomes a row of
    NaN with its reason. Raises InputError when the grades lack a proposition of the type.
    """
    names = rulebook.propositions_for(response_type)
    probability = grades.probability[:, _columns(grades.propositions, names)]
    with np.errstate(invalid="ignore"):
        classes = _class_probabilities(rulebook, response_type, names, probability)
    reasons = _reasons(grades, names, probability, classes)
    columns, every = [probability, classes], feature_names(rulebook, response_type)
    if every[-1] == QUESTIONS and asked is not None:
        columns.append(asked.values[:, None])
        reasons = dict(sorted((asked.reasons | reasons).items()))
    values = np.concatenate(columns, axis=1)
    values[sorted(reasons)] = np.nan
    return Features(every[: values.shape[1]], values, reasons)


def _columns(have: Sequence[str], want: Sequence[str]) -> list[int]:
    position = {name: column for column, name in enumerate(have)}
    missing = [name for name in want if name not in position]
    if missing:
        raise InputError(
            f"the grades lack proposition '{missing[0]}'", fix="grade every proposition of the response type"
        )
    return [position[name] for name in want]


def _class_probabilities(
    rulebook: Rulebook, response_type: ResponseType, names: Sequence[str], probability: np.ndarray
) -> np.ndarray:
    """[responses, classes]; a row is NaN where no class has any probability."""
    true: dict[str, np.ndarray] = {}
    for column, name in enumerate(names):
        true |= rulebook.propositions[name].probabilities(probability[:, column])
    raw = np.stack(
        [condition.probability(true) for condition in rulebook.conditions_for(response_type).values()], axis=1
    )
    return raw / raw.sum(axis=1, keepdims=True)


def _reasons(
    grades: Grades, names: Sequence[str], probability: np.ndarray, classes: np.ndarray
) -> dict[int, str]:
    reasons: dict[int, str] = {}
    for row in np.flatnonzero(~np.isfinite(classes).all(axis=1)):
        unscored = [
            name for name, value in zip(names, probability[row], strict=True) if not np.isfinite(value)
        ]
        if unscored:
            first = grades.reasons.get((int(row), grades.propositions.index(unscored[0])), "no reason given")
            more = f" (and {len(unscored) - 1} more)" if len(unscored) > 1 else ""
            reasons[int(row)] = f"{unscored[0]}: {first}{more}"
        else:
            reasons[int(row)] = "the grades rule out every completion class"
    return reasons
