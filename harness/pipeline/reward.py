"""Stages 7 and 8: fit the rule-based reward's weights, and check the reward before anything is trained on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evals.graders import Grader
from evals.values.clusters import AUTO, PROMPT, clusters_of
from evals.values.conversation import LabelledResponse
from evals.values.errors import InputError, UndecidableError
from evals.values.jsonl_rows import write_jsonl
from evals.values.metrics_table import write_metrics
from harness.keys.methods import Method
from harness.pipeline.context import Context
from harness.pipeline.graders import asked_grader
from harness.pipeline.reward_model_term import REFERENCE_FILES, reward_model_term
from harness.record.reward_rows import error_rows, reward_rows, write_diagnosis
from harness.storage.store import Artifact
from harness.worlds.folder import SYNTHETIC, SYNTHETIC_TEST, WorldFolder, labels_file
from trainers.reward.diagnosis import Diagnosis, diagnose
from trainers.reward.examples import (
    FitExamples,
    graded_examples,
    load_examples,
    save_examples,
    split_by_prompt,
)
from trainers.reward.ranking import rewards
from trainers.reward.reward import Reward, SumOfTerms
from trainers.reward.reward_weights import RewardWeights, load_weights, save_weights
from trainers.reward.terms import TermParts, build_term
from trainers.reward.weights import fit_weights
from trainers.reward.weights_config import MAX_UNSCORED


def fit_reward(
    context: Context,
    data: Artifact,
    completions: Artifact,
    grader: Artifact,
    reward_model: Artifact,
    kind: str,
) -> Artifact:
    """Weights at the hinge loss's optimum on synthetic comparisons; writes weights.json and examples.jsonl."""
    config, fitted_on = context.config, completions.part(labels_file(SYNTHETIC))

    def build(out: Path) -> dict[str, Any]:
        labelled = WorldFolder(completions.path).labelled(
            SYNTHETIC, list(context.rulebook.propositions), context.rulebook.levels
        )
        labelled = of_first_prompts(labelled, config.fitted_prompts)
        label = f"weights: {kind}"
        with context.console.stage(label, total=len(labelled), unit="responses") as advance:
            examples = _examples(context, labelled, data, grader, reward_model, advance)
        settings = replace(config.weights, seed=config.seed)
        weights = fit_weights(
            examples,
            context.rulebook,
            settings,
            grader=f"{grader.stage} {grader.key}",
            data=fitted_on.counted,
        )
        save_weights(weights, out / "weights.json")
        save_examples(examples, out / "examples.jsonl")
        return {f"hinge_{t.value}": fit.hinge for t, fit in weights.fits.items()}

    settings = {"weights": config.weights, "rulebook": context.rulebook.digest}
    if config.fitted_prompts is not None:
        settings["fitted_prompts"] = config.fitted_prompts
    return context.stage(
        f"weights: {kind}",
        build,
        config=settings,
        inputs={
            "data": data.part(*REFERENCE_FILES),
            "completions": fitted_on,
            "grader": grader,
            "reward_model": reward_model,
        },
        modules=["trainers.reward.weights", "trainers.reward.reward_model_term"],
        packages=["scipy"],
    )


def of_first_prompts(labelled: list[LabelledResponse], count: int | None) -> list[LabelledResponse]:
    """The responses to the first `count` prompts; all without a count."""
    ids = list(dict.fromkeys(row.response.prompt.id for row in labelled))
    kept = {*ids[:count]}
    return [row for row in labelled if row.response.prompt.id in kept]


def _examples(
    context: Context,
    labelled: list[LabelledResponse],
    data: Artifact,
    grader: Artifact,
    reward_model: Artifact,
    advance: Any,
) -> list[FitExamples]:
    """Grades and reward-model scores of labelled responses, by response type."""
    rulebook = context.rulebook
    asked = list(rulebook.propositions.values())
    term = reward_model_term(data, reward_model)
    examples = graded_examples(rulebook, labelled, asked_grader(context, grader), asked, term, advance)
    for group in examples:
        group.check_scored(MAX_UNSCORED, f"completions of {group.response_type.value}")
    return examples


def check_reward(
    context: Context,
    data: Artifact,
    completions: Artifact,
    grader: Artifact,
    reward_model: Artifact,
    weights: Artifact,
) -> Artifact:
    """The paper's outer loop on held-out prompts: every response's reward, ranking errors, what each rule does.

    Writes rewards.jsonl, ranking.csv and the files of `harness.record.reward_rows`.
    """
    config = context.config
    counted = PROMPT if config.evaluation.cluster == PROMPT else AUTO

    def build(out: Path) -> dict[str, Any]:
        labelled = WorldFolder(completions.path).labelled(
            SYNTHETIC_TEST, list(context.rulebook.propositions), context.rulebook.levels
        )
        with context.console.stage("ranking", total=len(labelled), unit="responses") as advance:
            examples = _examples(context, labelled, data, grader, reward_model, advance)
        fitted = load_weights(weights.path / "weights.json", context.rulebook)
        fitted_on = load_examples(weights.path / "examples.jsonl")
        diagnoses = _diagnoses(context, fitted_on, examples, fitted, _topics(labelled, counted))
        rows = [row for group in examples for row in reward_rows(group, rewards(group, fitted))]
        metrics = [row for d in diagnoses for row in error_rows(d.held, d.errors, config.seed)]
        write_jsonl(out / "rewards.jsonl", rows)
        write_metrics(out / "ranking.csv", metrics)
        write_diagnosis(out, diagnoses, config.seed, {})
        return {f"{m.method} {m.suite.split('/')[-1]}": m.value for m in metrics if m.method == "rm+rbr"}

    return context.stage(
        "ranking",
        build,
        config={"rulebook": context.rulebook.digest, "weights": config.weights, "counted": counted},
        inputs={
            "data": data.part(*REFERENCE_FILES),
            "completions": completions.part(labels_file(SYNTHETIC_TEST)),
            "grader": grader,
            "reward_model": reward_model,
            "weights": weights,
        },
        modules=[
            "trainers.reward.diagnosis",
            "trainers.reward.reward_model_term",
            "harness.record.reward_rows",
        ],
        packages=["scipy"],
    )


def _topics(labelled: Sequence[LabelledResponse], cluster: str) -> dict[str, str] | None:
    return clusters_of([row.response.prompt for row in labelled], cluster, "synthetic completions")


def _diagnoses(
    context: Context,
    fitted_on: list[FitExamples],
    examples: list[FitExamples],
    weights: RewardWeights,
    clusters: Mapping[str, str] | None,
) -> list[Diagnosis]:
    """The quick part: no new fit for each rule, one order of the prompts."""
    settings = replace(context.config.weights, seed=context.config.seed)
    parts = {e.response_type: split_by_prompt(e, settings.holdout, settings.seed)[0] for e in fitted_on}
    if new := [e.response_type.value for e in examples if e.response_type not in parts]:
        raise UndecidableError(
            f"the completions that check the reward have {', '.join(new)}, and those that the weights are fitted on "
            "have none; give completions of more prompts of that type (writer.prompts, data.completions), or leave its "
            "prompts out"
        )
    return [
        diagnose(
            parts[e.response_type],
            e,
            context.rulebook,
            weights,
            settings,
            refit=False,
            orders=1,
            clusters=clusters,
        )
        for e in examples
    ]


def reward_for(
    context: Context,
    method: Method,
    data: Artifact,
    reward_model: Artifact,
    grader: Artifact | None,
    weights: Artifact | None,
) -> Reward:
    """The reward that a method is trained on: the sum of its terms."""

    def fitted() -> RewardWeights:
        if weights is None:
            problem = f"{method.name} has no rule-based term, and no weights are fitted for it"
            raise InputError(problem, field="terms", fix="name rule_based among them")
        return load_weights(weights.path / "weights.json", context.rulebook)

    def trained() -> Grader:
        assert grader is not None  # of a method that asks none
        return asked_grader(context, grader)

    parts = TermParts(
        context.rulebook,
        context.config.seed,
        lambda: reward_model_term(data, reward_model),
        trained,
        fitted,
    )
    return SumOfTerms([build_term(kind, parts) for kind in method.terms])
