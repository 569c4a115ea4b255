"""The reward of a results folder: a run's from the artifacts that it names, a fit's from its weights and settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from evals.graders import GraderSpec
from evals.graders.cache import CachedGrader, GradeCache
from evals.graders.recorded import asked_in
from evals.models.server import GraderServerSettings
from evals.rules.rulebook import load_rulebook
from evals.values.conversation import Message
from evals.values.errors import InputError
from evals.values.jsonl_rows import read_labelled
from evals.values.levels import Levels
from evals.values.located_yaml import load_located_yaml
from evals.values.settings import settings_from
from harness.gate.rewards import LiveReward, live_reward
from harness.keys.compose import rulebook_path
from harness.keys.fit import ORACLE
from harness.keys.graders import GraderKeys, RewardModelKeys
from harness.keys.methods import Method, with_outside
from harness.record.finished_run import RunAddress, RunStages
from harness.record.manifest import read_manifest
from harness.runtime.libraries import no_progress_bars
from harness.storage.store import Artifact
from harness.subjects.completions import CompletionFile, find_completions
from harness.subjects.description import RewardDescription, RewardModelSpec
from harness.subjects.graders import label_grader
from trainers.reward.examples import held_out, load_examples
from trainers.reward.reward_weights import RewardWeights, load_weights
from trainers.reward.weights_config import FitMethod, WeightsConfig
from trainers.rl.config import Algorithm

CONFIG, WEIGHTS, EXAMPLES = "config.yaml", "weights.json", "examples.jsonl"


@dataclass(frozen=True)
class OpenRun:
    """A run's reward, the folders of its data and of the completions that it was fitted on, and what made it."""

    reward: LiveReward
    data: Path
    completions: Path
    weights_config: Mapping[str, Any]
    command: str
    commit: str


def load_run(address: RunAddress, cache: Path) -> LiveReward:
    """The reward of results/NAME: its rulebook, trained grader, fitted weights and reward model.

    Raises InputError where the run trained no rule-based reward, has several and none is named, or its store is
    gone.
    """
    stages = RunStages(address.folder)
    weights, rows = _weights(stages, address)
    return _live(stages, weights, _data_of(stages, rows[0], weights)[0], cache)


def open_run(address: RunAddress, cache: Path) -> OpenRun:
    """As `load_run`, with the data. Loads torch. Raises InputError too where jobs share the reward, not its data."""
    folder = address.folder
    stages = RunStages(folder)
    weights, rows = _weights(stages, address)
    worlds = {tuple(one.key for one in of): of for of in (_data_of(stages, row, weights) for row in rows)}
    if len(worlds) > 1:
        raise InputError(
            f"the reward was fitted in {len(worlds)} jobs of other data each, and none of them is named",
            path=folder,
            fix=f"name the job: {folder}:METHOD[KEY=VALUE]:SEED",
        )
    ((data, completions),) = worlds.values()
    reward = _live(stages, weights, data, cache)
    manifest = read_manifest(folder)
    made_by = str(manifest.get("command", "")), str(manifest.get("commit", ""))
    return OpenRun(reward, data.path, completions.path, reward.weights().config, *made_by)


def _data_of(stages: RunStages, row: Mapping[str, Any], weights: Artifact) -> tuple[Artifact, Artifact]:
    """(data, completions) of the job whose weights `row` names: what is not among its stages, the weights' own."""
    data = stages.beside(row, "data")
    if data is not None:
        return data, stages.beside(row, "completions") or data
    given = {role: (one["stage"], one["key"]) for role, one in weights.manifest["inputs"].items()}
    # Earlier runs had completions among their data.
    return stages.find(*given["data"]), stages.find(*given.get("completions", given["data"]))


def _live(stages: RunStages, weights: Artifact, data: Artifact, cache: Path) -> LiveReward:
    """The reward of these weights. Loads torch."""
    from harness.pipeline.graders import load_grader
    from harness.pipeline.reward_model_term import reward_model_term

    no_progress_bars()
    given = weights.manifest["inputs"]
    grader, reward_model = (
        stages.find(given[role]["stage"], given[role]["key"]) for role in ("grader", "reward_model")
    )
    path = _rulebook(stages.folder)
    rulebook = load_rulebook(path)
    fitted = load_weights(weights.path / WEIGHTS, rulebook)
    asked = CachedGrader(load_grader(grader, rulebook), GradeCache(cache))
    return LiveReward(
        rulebook,
        asked,
        lambda: fitted,
        reward_model_term(data, reward_model),
        {"rulebook": f"{path.name} ({rulebook.digest})", "grader": f"run {stages.folder.name}"},
        asked_in(asked, rulebook.prompt_template),
        refit=lambda: (load_examples(weights.path / EXAMPLES), _fit_settings(fitted)),
    )


def _fit_settings(weights: RewardWeights) -> WeightsConfig:
    """As the run fitted them."""
    known = {field.name for field in fields(WeightsConfig)}
    told = {name: value for name, value in weights.config.items() if name in known}
    return WeightsConfig(**{**told, "method": FitMethod(told["method"])})


def _weights(stages: RunStages, address: RunAddress) -> tuple[Artifact, list[Mapping[str, Any]]]:
    """The weights that `address` names, and the rows of the jobs that have them.

    Raises InputError where the run has none, or several that fit.
    """
    every = stages.having("weights")
    if not every:
        raise InputError(
            "the run has no stage 'weights'", path=stages.folder, fix="name a run with a rule-based method"
        )
    methods = with_outside(read_manifest(stages.folder).get("outside_methods", ()))
    label = _label_of(address, methods) if address.method else ""
    variant = address.method.partition("[")[2].removesuffix("]")
    fitting = [
        row
        for row in every
        if label in ("", row["stage"])
        and variant in ("", row.get("variant", ""))
        and address.seed in (None, row.get("seed"))
    ]
    keys = {row["key"] for row in fitting}  # variants may share one
    if len(keys) != 1:
        found = list(dict.fromkeys(_said(row, methods) for row in every))
        raise InputError(
            f"the run has {len(found)} rewards ({', '.join(found)}), and "
            f"{'more than one' if keys else 'none'} of them is named",
            path=stages.folder,
            fix=f"name method and seed: {stages.folder}:METHOD:SEED",
        )
    return stages.find("weights", *keys), fitting


def _label_of(address: RunAddress, methods: Mapping[str, Method]) -> str:
    """The stage that fits a method's weights: those of one reward model are one reward."""
    name = address.method.partition("[")[0]
    for method in methods.values():
        if name in (method.name, *(method.named(algorithm) for algorithm in Algorithm)):
            if method.rule_based and method.reward_model is not None:
                return f"weights: {method.reward_model.value}"
            raise InputError(
                f"{address.method} has no rule-based reward",
                path=address.folder,
                fix="name a method that has",
            )
    raise InputError(
        f"unknown method {address.method!r}", path=address.folder, fix=f"use {', '.join(methods)}"
    )


def _said(row: Mapping[str, Any], table: Mapping[str, Method]) -> str:
    """e.g. `rbr_ppo of seed 0`, by the methods that are paid by these weights."""
    kind = str(row["stage"]).partition(": ")[2]
    methods = [
        name for name, m in table.items() if m.rule_based and m.reward_model and m.reward_model.value == kind
    ]
    variant = f", {row['variant']}" if row.get("variant") else ""
    return f"{' or '.join(methods) or kind} of seed {row.get('seed', 0)}{variant}"


def load_fit(folder: Path, cache: Path, on: CompletionFile) -> LiveReward:
    """The reward of a fit: its weights, and the grader and reward model that they were fitted with.

    Weights that were fitted to labels alone are paid on the labels of `on`. Paths are as the fit was told them. Raises
    InputError for what the record names and is gone.
    """
    content = _settings(folder)
    try:
        told = {
            group: {key: value for key, value in content[group].items() if value is not None}
            for group in ("grader", "server", "reward_model")
        }
        keys = settings_from(GraderKeys, told["grader"], "grader")
        server = settings_from(GraderServerSettings, told["server"], "server")
        model = settings_from(RewardModelKeys, told["reward_model"], "reward_model")
    except (InputError, KeyError, AttributeError) as error:
        raise _damaged(folder, error) from None
    description = RewardDescription(
        folder / CONFIG,
        _rulebook(folder),
        GraderSpec(
            keys.kind,
            keys.path or "",
            server if keys.kind == "server" else None,
            chat_template=keys.chat_template,
        ),
        folder / WEIGHTS,
        RewardModelSpec(model.kind, model.path or "") if model.kind else None,
    )
    by_labels = keys.kind == ORACLE and keys.path is None
    levels = load_rulebook(description.rulebook).levels
    labels = label_grader(read_labelled(on.path, levels=levels)) if by_labels else None
    live = live_reward(description, cache, labels)
    weights = live.weights()
    return replace(
        live,
        weights=lambda: weights,
        about={**live.about, "grader": f"{live.grader.name} of fit {folder.name}"},
        fitted_on=_fitted_on(str(content.get("on", "")), weights, levels),
    )


def _fitted_on(
    on: str, weights: RewardWeights, levels: Mapping[str, Levels]
) -> frozenset[tuple[Message, ...]]:
    """The prompts that the weights saw; none where their file is gone."""
    try:
        labelled = read_labelled(find_completions(on).path, levels=levels)
    except InputError:
        return frozenset()
    share, seen = float(weights.config.get("holdout", 0.0)), set()
    for response_type in weights.response_types:
        prompts = [p for row in labelled if (p := row.response.prompt).response_type is response_type]
        out = held_out([prompt.id for prompt in prompts], share, weights.seed)
        seen |= {prompt.messages for prompt in prompts if prompt.id not in out}
    return frozenset(seen)


def _rulebook(folder: Path) -> Path:
    try:
        return rulebook_path(str(_settings(folder)["rulebook"]))
    except KeyError as error:
        raise _damaged(folder, error) from None


def _settings(folder: Path) -> Mapping[str, Any]:
    """What a run or a fit was told."""
    try:
        return load_located_yaml(folder / CONFIG)
    except InputError as error:
        raise _damaged(folder, error.problem) from None


def _damaged(folder: Path, why: object) -> InputError:
    return InputError(f"does not say what made the reward ({why})", path=folder / CONFIG, fix="run it again")
