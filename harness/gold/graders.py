"""Load the graders that are judged, and fit the one that needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from evals.calibration import gold_labels
from evals.errors import InputError
from evals.grade_cache import CachedGrader, GradeCache
from evals.graders import Grader, Grades
from evals.graders.recorded import RecordedGrader, asked_in
from evals.rulebook import Rulebook
from harness.gold.config import AskedBy, GoldConfig, GraderChoice
from harness.gold.labels import GoldSplits

CACHE = Path(".store") / "grades"  # under the root of results


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
    grader = LOADERS[choice.kind](choice, config, rulebook)
    template = asked_in(grader, rulebook.prompt_template)
    return JudgedGrader(choice.name, choice.kind, grader, template=template)


def _language_model(choice: GraderChoice, config: GoldConfig, rulebook: Rulebook) -> Grader:
    from evals.graders.language_model import LanguageModelGrader
    from evals.graders.question import GraderPrompt, Layout
    from evals.models import load_causal_lm, load_tokenizer

    prompt = None
    if config.asked_by is AskedBy.RULEBOOK:
        if rulebook.prompt_template is None:
            raise InputError(
                "the rulebook has no prompt_template",
                path=rulebook.path,
                fix="add one, or use asked_by=MODEL",
            )
        prompt = GraderPrompt(Layout.QUESTION_FIRST, rulebook.prompt_template)
    path = str(choice.path)
    grader = LanguageModelGrader(load_causal_lm(path), load_tokenizer(path), choice.name, prompt)
    return _cached(grader, config)


def _encoder(choice: GraderChoice, config: GoldConfig, rulebook: Rulebook) -> Grader:
    from evals.graders.encoder import EncoderGrader

    return EncoderGrader.load(str(choice.path), choice.name)


def _server(choice: GraderChoice, config: GoldConfig, rulebook: Rulebook) -> Grader:
    from evals.graders.server import ServerConfig, ServerGrader

    server = replace(config.server, model=choice.path or config.server.model)
    for key in ("base_url", "model"):
        if not getattr(server, key):
            raise InputError("is empty", field=f"server.{key}", fix="say which server and which model to ask")
    return _cached(ServerGrader(ServerConfig(**asdict(server)), choice.name), config)


def _recorded(choice: GraderChoice, config: GoldConfig, rulebook: Rulebook) -> Grader:
    return RecordedGrader(str(choice.path), choice.name, rulebook.prompt_template)


def _oracle(choice: GraderChoice, config: GoldConfig, rulebook: Rulebook) -> Grader:
    from evals.graders.oracle import OracleGrader
    from harness.sandbox.oracle import Oracle
    from harness.sandbox.world import World

    return OracleGrader(Oracle(World.load(Path(str(choice.path)))).truth, choice.name)


LOADERS: dict[str, Callable[[GraderChoice, GoldConfig, Rulebook], Grader]] = {
    "language_model": _language_model,
    "encoder": _encoder,
    "server": _server,
    "recorded": _recorded,
    "oracle": _oracle,
}


def _cached(grader: Grader, config: GoldConfig) -> Grader:
    """Behind a cache of its own, which holds what an interrupted call has graded."""
    identity: str = grader.identity  # type: ignore[attr-defined]
    path = Path(config.results) / CACHE / f"{identity.rpartition(':')[2]}.jsonl"
    return CachedGrader(grader, GradeCache(path), batch_size=config.batch_size)


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
