"""A finished run's own reward, from the artifacts that its results folder names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evals.graders.cache import CachedGrader, GradeCache
from evals.graders.recorded import asked_in
from evals.rules.rulebook import load_rulebook
from evals.values.errors import InputError
from harness.gate.rewards import LiveReward
from harness.keys.compose import rulebook_path
from harness.keys.methods import Method, with_outside
from harness.record.finished_run import RunAddress, RunStages
from harness.record.manifest import read_manifest
from harness.runtime.libraries import no_progress_bars
from harness.storage.store import Artifact
from trainers.reward.reward_weights import load_weights
from trainers.rl.config import Algorithm


@dataclass(frozen=True)
class OpenRun:
    """A run's reward, the folder of its data, and what made it."""

    reward: LiveReward
    data: Path
    weights_config: Mapping[str, Any]
    command: str
    commit: str


def load_run(address: RunAddress, cache: Path) -> LiveReward:
    """The reward of results/NAME: its rulebook, trained grader, fitted weights and reward model.

    Raises InputError where the run trained no rule-based reward, has several and none is named, or its store is
    gone.
    """
    return open_run(address, cache).reward


def open_run(address: RunAddress, cache: Path) -> OpenRun:
    """As `load_run`, with the data. Loads torch."""
    from harness.pipeline.graders import load_grader
    from harness.pipeline.reward import reward_model_term

    no_progress_bars()
    folder = address.folder
    stages = RunStages(folder)
    weights = _weights(stages, address)
    given = weights.manifest["inputs"]
    inputs = {role: stages.find(one["stage"], one["key"]) for role, one in given.items()}
    path = _rulebook(folder)
    rulebook = load_rulebook(path)
    fitted = load_weights(weights.path / "weights.json", rulebook)
    grader = CachedGrader(load_grader(inputs["grader"]), GradeCache(cache))
    reward = LiveReward(
        rulebook,
        grader,
        lambda: fitted,
        reward_model_term(inputs["data"], inputs["reward_model"]),
        {"rulebook": f"{path.name} ({rulebook.digest})", "grader": f"run {folder.name}"},
        asked_in(grader, rulebook.prompt_template),
    )
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    made_by = str(manifest.get("command", "")), str(manifest.get("commit", ""))
    return OpenRun(reward, inputs["data"].path, fitted.config, *made_by)


def _weights(stages: RunStages, address: RunAddress) -> Artifact:
    """The weights that `address` names. Raises InputError where the run has none, or several that fit."""
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
    rows = list({row["key"]: row for row in fitting}.values())  # variants may share one
    if len(rows) != 1:
        found = list(dict.fromkeys(_said(row, methods) for row in every))
        raise InputError(
            f"the run has {len(found)} rewards ({', '.join(found)}), and "
            f"{'more than one' if rows else 'none'} of them is named",
            path=stages.folder,
            fix=f"name method and seed: {stages.folder}:METHOD:SEED",
        )
    return stages.find("weights", rows[0]["key"])


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


def _rulebook(folder: Path) -> Path:
    path = folder / "config.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return rulebook_path(str(content["rulebook"]))
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError(f"does not name a rulebook ({error})", path=path, fix="run it again") from None
