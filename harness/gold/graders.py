"""Load the graders that are judged, and fit the one that needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.calibration import gold_labels
from evals.errors import InputError
from evals.graders import Grader, Grades
from evals.graders.recorded import asked_in
from evals.rulebook import Rulebook
from harness.gold.config import AskedBy, GoldConfig, GraderChoice
from harness.gold.labels import GoldSplits
from harness.graders import GRADES, GraderSpec, load_grader

if TYPE_CHECKING:  # it loads transformers
    from evals.graders.question import GraderPrompt


@dataclass(frozen=True)
class JudgedGrader:
    """A grader, and what is known of it before it is judged. `template`: how it puts a question.

    `train_grades`: grades of the training responses by heads that did not see their prompts, of a grader
    that was fitted to them; None where grading them is honest. `save` writes a fitted one into a folder.
    """

    name: str
    kind: str
    grader: Grader
    train_grades: Grades | None = None
    save: Callable[[Path], None] | None = None
    template: str = ""


def load_graders(config: GoldConfig, rulebook: Rulebook, splits: GoldSplits) -> list[JudgedGrader]:
    """In the order of the configuration. Raises InputError for what does not load or fit."""
    return [_load(choice, config, rulebook, splits) for choice in config.choices]


def _load(choice: GraderChoice, config: GoldConfig, rulebook: Rulebook, splits: GoldSplits) -> JudgedGrader:
    if choice.kind == "encoder" and not _is_fitted(choice):
        return _fit(choice, config, splits)
    spec, cache = _spec(choice, config, rulebook), Path(config.results) / GRADES
    grader = load_grader(spec, cache, rulebook, config.batch_size)
    template = asked_in(grader, rulebook.prompt_template)
    return JudgedGrader(choice.name, choice.kind, grader, template=template)


def _spec(choice: GraderChoice, config: GoldConfig, rulebook: Rulebook) -> GraderSpec:
    if choice.kind == "server":
        return GraderSpec(choice.kind, "", _server_keys(choice, config), choice.name)
    by_rulebook = choice.kind == "language_model" and config.asked_by is AskedBy.RULEBOOK
    prompt = _rulebooks_prompt(rulebook) if by_rulebook else None
    return GraderSpec(choice.kind, str(choice.path), {}, choice.name, prompt)


def _server_keys(choice: GraderChoice, config: GoldConfig) -> dict[str, Any]:
    keys = asdict(config.server) | {"model": choice.path or config.server.model}
    for key in ("base_url", "model"):
        if not keys[key]:
            raise InputError("is empty", field=f"server.{key}", fix="say which server and which model to ask")
    return keys


def _rulebooks_prompt(rulebook: Rulebook) -> GraderPrompt:
    from evals.graders.question import GraderPrompt, Layout

    if rulebook.prompt_template is None:
        raise InputError(
            "the rulebook has no prompt_template", path=rulebook.path, fix="add one, or use asked_by=MODEL"
        )
    return GraderPrompt(Layout.QUESTION_FIRST, rulebook.prompt_template)


def _is_fitted(choice: GraderChoice) -> bool:
    from evals.graders.encoder import HEAD

    return (Path(str(choice.path)) / HEAD).is_file()


def _fit(choice: GraderChoice, config: GoldConfig, splits: GoldSplits) -> JudgedGrader:
    """A plain encoder: its head is fitted to gold.train. Without gold.test it is judged out of fold."""
    from trainers.encoder_grader import EncodedResponses, cross_fit, fit_head

    if not splits.train:
        raise InputError(
            "an encoder without head is fitted to labels, and there are none",
            field="gold.train",
            fix="give gold.train=FILE, with other prompts than gold.test, or the folder of a fitted encoder",
        )
    names, settings = [p.name for p in splits.propositions], config.encoder
    responses = [item.response for item in splits.train]
    encoded = EncodedResponses.by(str(choice.path), responses, settings.max_tokens)
    labels = gold_labels(splits.train, names)
    fitted = fit_head(encoded, labels, names, settings, choice.name)
    crossed = cross_fit(encoded, labels, names, settings, config.folds, config.seed, choice.name)
    grader = crossed if splits.cross else fitted
    save = fitted.answering(splits.propositions).save
    return JudgedGrader(choice.name, choice.kind, grader, crossed.grade_encoded(encoded), save)
