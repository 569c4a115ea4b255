"""`rbrbench fit` from configuration to results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from evals.rules.check import require_sound
from evals.rules.rulebook import Rulebook, load_rulebook
from evals.values.conversation import Response, ResponseType
from evals.values.errors import InputError
from evals.values.jsonl_rows import write_jsonl
from evals.values.metrics_table import write_metrics
from harness.evaluate.spending import keep_graders, spending_record
from harness.evaluate.spending_line import asking_stage
from harness.fit.data import (
    FitModels,
    GradedExamples,
    examples_by_type,
    load_models,
    read_sets,
    split_examples,
)
from harness.keys.compose import rulebook_path
from harness.keys.fit import FitConfig
from harness.keys.graders import MODELS
from harness.record.manifest import Kind, recording
from harness.record.reward_rows import error_rows, reward_rows, write_diagnosis
from harness.record.run import spending_part
from harness.runtime.console import Console
from harness.runtime.libraries import own_threads, quiet_libraries
from harness.storage.digest import canonical
from harness.storage.ownership import check_results
from harness.subjects.completions import CompletionSet
from harness.subjects.graders import LABELS
from trainers.reward.diagnosis import STEPS, Diagnosis, diagnose
from trainers.reward.ranking import rewards
from trainers.reward.reward_weights import RewardWeights, save_weights
from trainers.reward.weights import fit_weights
from trainers.reward.weights_config import WeightsConfig

ByType = dict[ResponseType, GradedExamples]


@own_threads()
def run_fit(config: FitConfig, console: Console | None = None, command: Sequence[str] = ()) -> Path:
    """Grade, fit, judge on held-out prompts, write the record to results/NAME, the path of which it returns.

    `command` is what it was asked by. Raises InputError for bad input and UndecidableError where too much is
    unscored; what a model graded until then is kept in the grade cache, and nothing else is written.
    """
    console = console or Console()
    rulebook = load_rulebook(rulebook_path(config.rulebook))
    require_sound(rulebook)
    completions, test = read_sets(config, rulebook)
    folder = Path(config.results) / config.name
    check_results(folder, Kind.FIT.owner)
    _use_threads(config)
    sets = [completions] if test is None else [completions, test]
    models = load_models(config, rulebook, sets)
    about = {key: value for key, value in asdict(config).items() if key != "server"}  # a budget may be raised
    meters = keep_graders({"grader": models.grader}, "fit", config.results, config.name, about)
    every = [_graded(one, rulebook, models, config, console) for one in sets]
    settings = _settings(config, models)
    weights = _fitted(every[0], completions, rulebook, models, settings, console)
    fitted, held = (
        split_examples(every[0], settings.holdout, config.seed) if test is None else (every[0], every[1])
    )
    diagnoses = _diagnoses(fitted, held, rulebook, weights, settings, config, console)
    responses = {t.value: part.responses for t, part in held.items()}
    notes = _notes(config, models, weights, completions, test, diagnoses)
    spent = spending_record(meters)
    write_record(folder, diagnoses, responses, weights, config, notes, ["fit", *command], spent)
    return folder


def _graded(
    completions: CompletionSet, rulebook: Rulebook, models: FitModels, config: FitConfig, console: Console
) -> ByType:
    with asking_stage(console, f"grade: {completions.name}", models.grader, len(completions)) as advance:
        return examples_by_type(completions, rulebook, models, config.max_unscored, advance)


def _settings(config: FitConfig, models: FitModels) -> WeightsConfig:
    """The fit's own settings: all prompts of `on` where others are given to judge it on."""
    return replace(
        config.weights,
        seed=config.seed,
        holdout=config.weights.holdout if config.test is None else 0.0,
        reward_model=models.reward_model is not None,
    )


def _fitted(
    parts: ByType,
    completions: CompletionSet,
    rulebook: Rulebook,
    models: FitModels,
    settings: WeightsConfig,
    console: Console,
) -> RewardWeights:
    with console.stage("fit", total=len(parts), unit="response types") as advance:
        return fit_weights(
            [part.examples for part in parts.values()],
            rulebook,
            settings,
            grader=models.grader_name,
            data=f"{completions.name} {completions.digest}",
            reward_model=models.score_name,
            progress=advance,
        )


def _diagnoses(
    fitted: ByType,
    held: ByType,
    rulebook: Rulebook,
    weights: RewardWeights,
    settings: WeightsConfig,
    config: FitConfig,
    console: Console,
) -> list[Diagnosis]:
    """Of every response type that has held-out prompts. Raises InputError where none has."""
    types = [t for t in fitted if t in held and len(held[t].examples)]
    if not types:
        raise InputError(
            "no response type has held-out prompts to judge the reward on",
            field="test" if config.test else "weights.holdout",
            fix="give more prompts",
        )
    found = []
    with console.stage("judge", total=STEPS * len(types), unit="steps") as advance:
        for response_type in types:
            d = diagnose(
                fitted[response_type].examples,
                held[response_type].examples,
                rulebook,
                weights,
                settings,
                refit=config.refit,
                orders=config.orders,
                worst=config.worst,
                draws=config.draws,
                progress=advance,
            )
            # Without a reward model the two other rewards say nothing.
            found.append(d if settings.reward_model else replace(d, errors={"rbr": d.errors["rbr"]}))
    return found


def _notes(
    config: FitConfig,
    models: FitModels,
    weights: RewardWeights,
    completions: CompletionSet,
    test: CompletionSet | None,
    diagnoses: Sequence[Diagnosis],
) -> list[str]:
    judged = (
        f"judged on {test.name}"
        if test
        else f"judged on {config.weights.holdout:.0%} of its prompts, held out"
    )
    notes = [
        f"Fitted on {completions.name} ({completions.digest}), {judged}; split and intervals are by prompt, seed "
        f"{config.seed}. A tie counts as half an error.",
        f"Rulebook {weights.rulebook_digest}; grader: {models.grader_name}; "
        f"reward model: {models.score_name or 'none'}.",
    ]
    if models.grader.name == LABELS:
        notes.append("The labels themselves are the grades: a real grader errs, and its reward ranks worse.")
    if completions.left_out:
        notes.append(f"{completions.left_out} completions without a response type are left out.")
    unjudged = [t.value for t in weights.response_types if t not in {d.response_type for d in diagnoses}]
    if unjudged:
        notes.append(f"No held-out prompt of {', '.join(unjudged)}: their weights are not judged.")
    few = [d.response_type.value for d in diagnoses if d.error.prompts < 30]
    if few:
        notes.append(f"Fewer than 30 held-out prompts of {', '.join(few)}: their errors are rough.")
    dropped = sum(fit.dropped for fit in weights.fits.values())
    if dropped:
        notes.append(f"{dropped} unscored completions are left out of the fit, none counted as 0.")
    return notes


def _use_threads(config: FitConfig) -> None:
    """Only a model needs torch, which takes seconds to load."""
    if config.grader.kind in MODELS or config.reward_model.kind == "model":
        quiet_libraries(config.threads)


def write_record(
    folder: Path,
    diagnoses: Sequence[Diagnosis],
    responses: Mapping[str, Sequence[Response]],
    weights: RewardWeights,
    config: FitConfig,
    notes: Sequence[str],
    command: Sequence[str],
    spent: Mapping[str, Any] | None = None,
) -> None:
    """`responses` are the held-out ones by response type, `spent` what was asked of the grader's server. The same
    results give the same bytes.
    """
    with recording(folder, Kind.FIT, config.name, command, notes, **spending_part(spent or {})) as new:
        save_weights(weights, new / "weights.json")
        (new / "config.yaml").write_text(
            yaml.safe_dump(canonical(asdict(config)), sort_keys=False), encoding="utf-8"
        )
        write_metrics(
            new / "metrics.csv",
            [row for d in diagnoses for row in error_rows(d.held, d.errors, config.seed)],
        )
        write_diagnosis(new, diagnoses, config.seed, responses)
        rows = (row for d in diagnoses for row in reward_rows(d.held, _shown(d, weights)))
        write_jsonl(new / "rewards.jsonl", ({"seed": config.seed, **row} for row in rows))


def _shown(d: Diagnosis, weights: RewardWeights) -> Mapping[str, Any]:
    return {name: total for name, total in rewards(d.held, weights).items() if name in d.errors}
