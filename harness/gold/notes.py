"""What a reader of `rbrbench gold` must know before the first number. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from harness.gold.agreement import enough_to_learn
from harness.gold.labels import GoldSplits, LabelCount
from harness.gold.lesson import Lesson
from harness.gold.measure import ENOUGH
from harness.keys.gold import RECORDED, GoldConfig


def gold_notes(
    splits: GoldSplits, counts: Sequence[LabelCount], config: GoldConfig, lesson: Lesson | None
) -> list[str]:
    """On the labels, then on what an encoder was taught."""
    return [*_on_labels(splits, counts, config), *(_on_lesson(lesson, config) if lesson else ())]


def _on_labels(splits: GoldSplits, counts: Sequence[LabelCount], config: GoldConfig) -> list[str]:
    prompts = len({item.response.prompt.id for item in splits.judged})
    notes = [
        f"{len(splits.judged)} labelled responses to {prompts} prompts are judged on {len(counts)} propositions. "
        "Intervals are 95 %, by bootstrap over prompts. Means are over the propositions where a value is defined."
    ]
    taught = "" if config.teacher.kind else ", and an encoder that is fitted here,"
    if splits.cross:
        notes.append(
            f"There is no gold.test: prompts are dealt into {config.folds} folds. Thresholds{taught} come from the "
            "other folds' labels."
        )
    elif splits.train:
        notes.append(
            f"Thresholds{taught} come from {len(splits.train)} responses of gold.train; {splits.left_out} more "
            "were left out, since their prompt is judged."
        )
    else:
        notes.append("There is no gold.train: no thresholds were tuned.")
    few = [count.proposition for count in counts if count.too_few_to_judge(config.few)]
    if few:
        notes.append(
            f"Too few labels to judge (fewer than {config.few} prompts with a true, or with a false one): "
            f"{', '.join(few)}. The row {ENOUGH} leaves them out."
        )
    learn = [count.proposition for count in counts if count.too_few_to_learn(config.few)]
    if splits.train and learn:
        notes.append(f"Too few labels to learn from; their threshold stays 0.5: {', '.join(learn)}.")
    kinds = {choice.kind for choice in config.choices}
    if config.hostile.responses and RECORDED in kinds:
        notes.append(
            "A file of grades cannot be asked about hostile responses: judge its grader itself for those."
        )
    if config.hostile.responses and kinds != {RECORDED}:
        notes.append(
            "Moved by attacks: mean absolute change of a grade when the same response is made hostile, and, after "
            "the slash, the change by a harmless added sentence. Some attacks add text that a rule may rightly see."
        )
    notes.append(
        "Labels are given by people and hold errors of their own, which count against the grader here."
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
