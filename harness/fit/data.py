"""Labelled completions with grades and reward-model scores, divided into fitting and held-out prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evals.graders import Grader, GraderSpec
from evals.rules.rulebook import Rulebook
from evals.values.conversation import Response, ResponseType
from evals.values.errors import InputError
from evals.values.kinds import code_of, is_outside
from harness.keys.fit import ORACLE, FitConfig
from harness.keys.graders import RewardModelKeys
from harness.runtime.console import Advance
from harness.storage.digest import digest_files
from harness.subjects.completions import CompletionSet, find_completions, read_completions
from harness.subjects.description import RewardModelSpec, load_reward_model_term
from harness.subjects.graders import GRADES, label_grader, load_grader
from trainers.reward.examples import FitExamples, graded_examples
from trainers.reward.reward import Reward


@dataclass(frozen=True)
class FitModels:
    """Who grades and who scores, ready to be asked. `grader_name` and `score_name` say which, by content."""

    grader: Grader
    grader_name: str
    reward_model: Reward | None
    score_name: str


@dataclass(frozen=True)
class GradedExamples:
    """Examples of one response type with the responses that they are of, row by row."""

    examples: FitExamples
    responses: tuple[Response, ...]

    def select(self, mask: np.ndarray) -> GradedExamples:
        rows = np.flatnonzero(mask)
        return GradedExamples(self.examples.select(rows), tuple(self.responses[i] for i in rows))


def read_sets(config: FitConfig, rulebook: Rulebook) -> tuple[CompletionSet, CompletionSet | None]:
    """The completions of `on` and of `test`. Raises InputError for bad rows, and for a prompt in both."""
    fitted = read_completions(find_completions(config.on), rulebook, config.types)
    held = None
    if config.test is not None:
        held = read_completions(find_completions(config.test), rulebook, config.types)
        both = {item.response.prompt.messages for item in fitted.labelled} & {
            item.response.prompt.messages for item in held.labelled
        }
        shared = next((i for i in held.labelled if i.response.prompt.messages in both), None)
        if shared is not None:
            raise InputError(
                f"{len(both)} prompts are also in on={config.on}, {shared.response.prompt.id!r} first",
                path=held.path,
                field="test",
                fix="judge the reward on other prompts than it is fitted on",
            )
    return fitted, held


def load_models(config: FitConfig, rulebook: Rulebook, sets: Sequence[CompletionSet]) -> FitModels:
    """Load the grader and the reward model. Raises InputError where one does not load."""
    grader = _grader(config, rulebook, sets)
    model, score_name = _reward_model(config.reward_model)
    return FitModels(grader, _identity(grader, config), model, score_name)


def examples_by_type(
    completions: CompletionSet, rulebook: Rulebook, models: FitModels, limit: float, advance: Advance
) -> dict[ResponseType, GradedExamples]:
    """Grade and score every completion, by response type.

    Raises UndecidableError when more than `limit` of a type's completions stay unscored; the grades of a
    model are in the cache then.
    """
    responses = completions.responses
    types = completions.response_types
    names = {name for t in types for name in rulebook.propositions_for(t)}
    asked = [p for name, p in rulebook.propositions.items() if name in names]
    examples = graded_examples(
        rulebook, completions.labelled, models.grader, asked, models.reward_model, advance
    )
    made = {e.response_type: e for e in examples}
    parts = {t: GradedExamples(made[t], tuple(responses[i] for i in completions.rows(t))) for t in types}
    for kind, part in parts.items():
        part.examples.check_scored(limit, f"completions of {kind.value} ({completions.path})")
    return parts


def split_examples(
    parts: Mapping[ResponseType, GradedExamples], share: float, seed: int
) -> tuple[dict[ResponseType, GradedExamples], dict[ResponseType, GradedExamples]]:
    """Fitting and held-out prompts, as `fit_weights` splits them."""
    fitted, held = {}, {}
    for response_type, part in parts.items():
        out = part.examples.held_out(share, seed)
        fitted[response_type], held[response_type] = part.select(~out), part.select(out)
    return fitted, held


def _grader(config: FitConfig, rulebook: Rulebook, sets: Sequence[CompletionSet]) -> Grader:
    if config.grader.kind == ORACLE and config.grader.path is None:
        return label_grader(item for completions in sets for item in completions.labelled)
    server = config.server if config.grader.kind == "server" else None
    keys = config.grader.chat_template
    spec = GraderSpec(config.grader.kind, config.grader.path or "", server, chat_template=keys)
    return load_grader(spec, Path(config.results) / GRADES, rulebook)


def _reward_model(keys: RewardModelKeys) -> tuple[Reward | None, str]:
    """The reward model, and which it is, by content."""
    if not keys.kind:
        return None, ""
    path = keys.path or ""
    model = load_reward_model_term(RewardModelSpec(keys.kind, path))
    if is_outside(keys.kind):
        return model, f"{keys.kind} {code_of(keys.kind)} {path}".strip()
    return model, f"{Path(path).name} {digest_files([path])}" if keys.kind == "recorded" else Path(path).name


def _identity(grader: Grader, config: FitConfig) -> str:
    """The grader by content, where it can be told: a digest of its weights, or of the file of grades."""
    known = getattr(grader, "identity", None)
    if known is None and config.grader.kind == "recorded":
        return f"{grader.name} {digest_files([str(config.grader.path)])}"
    return str(known or getattr(grader, "made_of", grader.name))
