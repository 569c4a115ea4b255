"""How well a distilled grader copies its teacher, on completions that its head did not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evals.graders.calibration import calibrate, cuts_of
from harness.gold.graders import JudgedGrader
from harness.gold.grading import Lesson
from harness.keys.gold import GoldConfig

Row = dict[str, object]
COLUMNS = (
    *("student", "teacher", "proposition", "n", "n_true", "agreement", "agreement_ci_low"),
    *("agreement_ci_high", "majority", "balanced_agreement", "mean_difference", "enough_to_learn"),
)


@dataclass(frozen=True)
class TeacherAgreement:
    """A row a proposition, then their mean, with COLUMNS. Out of fold by prompt."""

    student: str
    rows: list[Row]


def agreements_with(
    lesson: Lesson, graders: Sequence[JudgedGrader], config: GoldConfig
) -> list[TeacherAgreement]:
    """Of every student of the lesson."""
    return [agreement_with(lesson, grader, config) for grader in graders if grader.unseen is not None]


def agreement_with(lesson: Lesson, student: JudgedGrader, config: GoldConfig) -> TeacherAgreement:
    """Share of equal verdicts at 0.5, of levels at their cut, beside the share of the teacher's commoner verdict, and
    the mean absolute difference of the two grades. Intervals are by bootstrap over prompts.
    """
    assert student.unseen is not None
    cuts = cuts_of(lesson.propositions)
    found = calibrate(
        student.name, student.unseen, lesson.verdicts, cuts, draws=config.draws, seed=config.seed
    )
    apart = np.abs(student.unseen.probability - lesson.grades.probability)
    apart_by = [_mean(column) for column in apart.T]
    enough = {name: enough_to_learn(lesson, name, config.few) for name in lesson.grades.propositions}
    rows = [
        {
            "student": student.name,
            "teacher": lesson.teacher,
            "proposition": row["proposition"],
            "n": row["n"],
            "n_true": row["n_positive"],
            "agreement": row["accuracy"],
            "agreement_ci_low": row["accuracy_ci_low"],
            "agreement_ci_high": row["accuracy_ci_high"],
            "majority": row["majority"],
            "balanced_agreement": row["balanced_accuracy"],
            "mean_difference": difference,
            "enough_to_learn": str(enough[name]).lower()
            if (name := str(row["proposition"])) in enough
            else "",
        }
        for row, difference in zip(found, [*apart_by, _mean(np.array(apart_by))], strict=True)
    ]
    return TeacherAgreement(student.name, rows)


def enough_to_learn(lesson: Lesson, proposition: str, few: int) -> bool:
    """Whether the teacher says true in completions to `few` prompts, and false in as many."""
    grades, cut = lesson.grades.column(proposition), cuts_of(lesson.propositions)[proposition]
    prompts = np.array([response.prompt.id for response in lesson.responses])
    return all(len(set(prompts[side])) >= few for side in (grades >= cut, grades < cut))


def _mean(values: np.ndarray) -> float:
    """Mean of what is known; NaN where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
