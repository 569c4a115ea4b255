"""What a reader of `rbrbench gold` must know before the first number. Pure."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np

from evals.values.grades import Grades
from harness.gold.agreement import enough_to_learn
from harness.gold.grading import Lesson
from harness.gold.labels import GoldSplits, LabelCount
from harness.gold.measure import ENOUGH
from harness.keys.gold import RECORDED, GoldConfig


def gold_notes(
    splits: GoldSplits, counts: Sequence[LabelCount], config: GoldConfig, lesson: Lesson | None
) -> list[str]:
    """On the labels, then on what an encoder was taught."""
    return [*_on_labels(splits, counts, config), *(_on_lesson(lesson, config) if lesson else ())]


WAVERS = 0.8  # agreement of a grader's answers to one question, below which it is warned of


def sample_note(name: str, grades: Grades, samples: int, levels: Container[str] = ()) -> str:
    """How far the answers of a grader that is asked several times agree, and what a grade may err by for it.

    `levels` has the propositions with levels. Of their mean scores, 0 to 1, the variance of one answer is at most
    mean (1 - mean), as it is of a share (Bhatia and Davis, American Mathematical Monthly 107, 2000).
    """
    said = ~np.isnan(grades.probability)
    scored = said & np.array([one in levels for one in grades.propositions], dtype=bool)
    shares, scores = grades.probability[said & ~scored], grades.probability[scored]
    told = [_share_note(name, shares, samples)] if len(shares) or not len(scores) else []
    if len(scores):
        told.append(
            f"{name}: where there are levels, a grade is the mean score of {samples} answers; its standard error is "
            f"at most {_error(scores, samples):.2f}."
        )
    return " ".join(told)


def _error(shares: np.ndarray, samples: int) -> float:
    return float(np.sqrt((shares * (1.0 - shares)).mean() / (samples - 1)))


def _share_note(name: str, shares: np.ndarray, samples: int) -> str:
    if not len(shares):
        return f"{name}: none of its answers was yes or no."
    agreement = float(np.maximum(shares, 1.0 - shares).mean())
    warning = "; it wavers: ask more often, or another" if agreement < WAVERS else ""
    return (
        f"{name}: a grade is the share of yes of {samples} answers, of which {agreement:.0%} agree in the mean; "
        f"its standard error is {_error(shares, samples):.2f}{warning}."
    )


def _on_labels(splits: GoldSplits, counts: Sequence[LabelCount], config: GoldConfig) -> list[str]:
    prompts = len({item.response.prompt.id for item in splits.judged})
    notes = [
        f"{len(splits.judged)} labelled responses to {prompts} prompts are judged on {len(counts)} propositions. "
        "Intervals are 95 %, by bootstrap over prompts. Means are over the propositions where a value is defined."
    ]
    notes.append(_on_thresholds(splits, config))
    few = [count.proposition for count in counts if count.too_few_to_judge(config.few)]
    if few:
        notes.append(
            f"Too few labels to judge (fewer than {config.few} prompts with a true, or with a false one): "
            f"{', '.join(few)}. The row {ENOUGH} leaves them out."
        )
    learn = [count.proposition for count in counts if count.too_few_to_learn(config.few)]
    if splits.train and learn:
        notes.append(f"Too few labels to learn from; their threshold stays 0.5: {', '.join(learn)}.")
    return [
        *notes,
        *_on_attacks(config),
        "Labels are given by people and hold errors of their own, which count against the grader here.",
    ]


def _on_thresholds(splits: GoldSplits, config: GoldConfig) -> str:
    """Whose labels they, and an encoder, were learnt from."""
    taught = "" if config.teacher.kind else ", and an encoder that is fitted here,"
    if splits.cross:
        return (
            f"There is no gold.test: prompts are dealt into {config.folds} folds. Thresholds{taught} come from the "
            "other folds' labels."
        )
    if splits.train:
        return (
            f"Thresholds{taught} come from {len(splits.train)} responses of gold.train; {splits.left_out} more "
            "were left out, since their prompt is judged."
        )
    return "There is no gold.train: no thresholds were tuned."


def _on_attacks(config: GoldConfig) -> list[str]:
    kinds = {choice.kind for choice in config.choices}
    notes = []
    if config.hostile.responses and RECORDED in kinds:
        notes.append(
            "A file of grades cannot be asked about hostile responses: judge its grader itself for those."
        )
    if config.hostile.responses and kinds != {RECORDED}:
        notes.append(
            "Moved by attacks: mean absolute change of a grade when the same response is made hostile, and, after "
            "the slash, the change by a harmless added sentence. Some attacks add text that a rule may rightly see."
        )
    return notes


def _on_lesson(lesson: Lesson, config: GoldConfig) -> list[str]:
    prompts = len({response.prompt.id for response in lesson.responses})
    notes = [
        f"A plain encoder is fitted to the grades that {lesson.teacher} gave {len(lesson.responses)} completions "
        f"to {prompts} prompts, none of them with labels; {lesson.left_out} more were left out, since their "
        f"prompt is in gold.train or gold.test. {lesson.grades.n_unscored} grades of the teacher are unscored, "
        "and taught nothing. Agreement is out of fold: with heads that did not see the prompt."
    ]
    few = [n for n in lesson.grades.propositions if not enough_to_learn(lesson, n, config.few)]
    if few:
        notes.append(
            f"Too few to learn from {lesson.teacher} (fewer than {config.few} prompts where it says true, or "
            f"where it says false): {', '.join(few)}."
        )
    return notes
