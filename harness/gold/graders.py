"""Load the graders that are judged, and fit the one that needs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evals.graders import Grader
from evals.graders.calibration import gold_labels
from evals.graders.recorded import asked_in
from evals.rules.rulebook import Rulebook
from evals.values.conversation import Response
from evals.values.errors import InputError
from evals.values.grades import Grades
from harness.gold.grading import Lesson, grader_spec, priced
from harness.gold.labels import GoldSplits
from harness.keys.gold import GoldConfig, GoldServer, GraderChoice
from harness.runtime.console import Console
from harness.subjects.graders import GRADES, is_plain_encoder, load_grader
from trainers.supervised.encoder_config import EncoderFitConfig

if TYPE_CHECKING:  # they load torch
    from evals.graders.encoder import EncoderGrader
    from trainers.supervised.encoder_grader import CrossFittedGrader


@dataclass(frozen=True)
class JudgedGrader:
    """A grader, and what is known of it before it is judged. `template`: how it puts a question.

    `train_grades`: grades of the training responses by heads that did not see their prompts, of a grader
    that was fitted to them; None where grading them is honest. `save` writes a fitted one into a folder.
    `unseen`: of a distilled one, grades of the lesson's responses by heads that did not see their prompts.
    """

    name: str
    kind: str
    grader: Grader
    train_grades: Grades | None = None
    save: Callable[[Path], None] | None = None
    template: str = ""
    unseen: Grades | None = None
    server: GoldServer = field(default_factory=GoldServer)


def load_graders(
    config: GoldConfig, rulebook: Rulebook, splits: GoldSplits, lesson: Lesson | None, console: Console
) -> list[JudgedGrader]:
    """In the order of the configuration; plain encoders are fitted to the lesson, else to gold.train.

    Raises InputError for what does not load or fit.
    """
    return [_load(choice, config, rulebook, splits, lesson, console) for choice in config.choices]


def check_students(config: GoldConfig) -> None:
    """Raises InputError where no grader is left to be taught, before the teacher is asked for hours."""
    from evals.graders.encoder import encoder_depth

    students = [choice for choice in config.choices if is_plain_encoder(choice.kind, choice.path)]
    if not students:
        raise InputError(
            "no grader here is a plain encoder, which alone can be taught",
            field="teacher.kind",
            fix="name one: grader.kind=encoder grader.path=FOLDER, or leave the teacher out",
        )
    for choice in students:
        encoder_depth(str(choice.path))


def _load(
    choice: GraderChoice,
    config: GoldConfig,
    rulebook: Rulebook,
    splits: GoldSplits,
    lesson: Lesson | None,
    console: Console,
) -> JudgedGrader:
    if is_plain_encoder(choice.kind, choice.path):
        return (
            _distilled(choice, config, lesson, console) if lesson else _fit(choice, config, splits, console)
        )
    spec, cache = grader_spec(choice, config, rulebook), Path(config.results) / GRADES
    grader = load_grader(spec, cache, rulebook, config.batch_size)
    template = asked_in(grader, rulebook.prompt_template)
    return JudgedGrader(choice.name, choice.kind, grader, template=template, server=priced(choice, config))


def _fit(choice: GraderChoice, config: GoldConfig, splits: GoldSplits, console: Console) -> JudgedGrader:
    """A head fitted to gold.train. Without gold.test it is judged out of fold."""
    if not splits.train:
        raise InputError(
            "an encoder without head is fitted to labels, and there are none",
            field="gold.train",
            fix="give gold.train=FILE, with other prompts than gold.test, a teacher (teacher.kind=KIND "
            "teacher.on=FILE), or the folder of a fitted encoder",
        )
    names = [p.name for p in splits.propositions]
    responses = [item.response for item in splits.train]
    labels = gold_labels(splits.train, names)
    fitted = _fit_heads(choice, config, config.encoder, responses, labels, names, console)
    grader = fitted.crossed if splits.cross else fitted.whole
    save = fitted.whole.answering(splits.propositions).save
    return JudgedGrader(choice.name, choice.kind, grader, fitted.unseen, save)


def _distilled(choice: GraderChoice, config: GoldConfig, lesson: Lesson, console: Console) -> JudgedGrader:
    """A head fitted to the teacher's grades; no prompt of the labels is among them."""
    names, labels = lesson.grades.propositions, lesson.grades.probability
    settings = config.encoder.for_grades()
    fitted = _fit_heads(choice, config, settings, lesson.responses, labels, names, console)
    save = fitted.whole.answering(lesson.propositions).save
    return JudgedGrader(choice.name, choice.kind, fitted.whole, save=save, unseen=fitted.unseen)


@dataclass(frozen=True)
class _FittedHeads:
    """The head of all responses, those of the folds, and what the latter say of what they did not see."""

    whole: EncoderGrader
    crossed: CrossFittedGrader
    unseen: Grades


def _fit_heads(
    choice: GraderChoice,
    config: GoldConfig,
    settings: EncoderFitConfig,
    responses: Sequence[Response],
    labels: np.ndarray,
    names: Sequence[str],
    console: Console,
) -> _FittedHeads:
    from trainers.supervised.encoder_grader import EncodedResponses, cross_fit, fit_head

    with console.stage(f"encode: {choice.name}", total=len(responses), unit="responses") as advance:
        encoded = EncodedResponses.by(str(choice.path), responses, settings.max_tokens, advance)
    with console.stage(f"fit: {choice.name}", total=config.folds + 1, unit="heads") as advance:
        whole = fit_head(encoded, labels, names, settings, choice.name)
        advance(1)
        crossed = cross_fit(encoded, labels, names, settings, config.folds, config.seed, choice.name, advance)
    return _FittedHeads(whole, crossed, crossed.grade_encoded(encoded))
