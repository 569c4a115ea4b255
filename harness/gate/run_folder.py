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
from evals.values.conversation import read_jsonl
from evals.values.errors import InputError
from harness.gate.rewards import LiveReward
from harness.keys.compose import rulebook_path
from harness.runtime.libraries import no_progress_bars
from harness.storage.store import Artifact, Store
from trainers.reward.reward_weights import load_weights


def is_run(folder: Path) -> bool:
    return (folder / "stages.jsonl").is_file()


@dataclass(frozen=True)
class OpenRun:
    """A run's reward, the folder of its data, and what made it."""

    reward: LiveReward
    data: Path
    weights_config: Mapping[str, Any]
    command: str
    commit: str


def load_run(folder: Path, cache: Path) -> LiveReward:
    """The reward of results/NAME: its rulebook, trained grader, fitted weights and reward model.

    Of a sweep, the first seed's. Raises InputError where the run trained no rule-based reward, or its
    store is gone.
    """
    return open_run(folder, cache).reward


def open_run(folder: Path, cache: Path) -> OpenRun:
    """As `load_run`, with the data. Loads torch."""
    from harness.pipeline.graders import load_grader
    from harness.pipeline.reward import reward_model_term

    no_progress_bars()
    stages = _Stages(folder)
    weights = stages.artifact("weights")
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


class _Stages:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder.parent / ".store")
        rows = read_jsonl(folder / "stages.jsonl", lambda row: (row.get("stage", str), row.get("key", str)))
        self.keys = {stage.split(":")[0]: key for stage, key in reversed(rows)}

    def artifact(self, stage: str) -> Artifact:
        if stage not in self.keys:
            raise InputError(
                f"the run has no stage '{stage}'", path=self.folder, fix="name a run with a rule-based method"
            )
        return self.find(stage, self.keys[stage])

    def find(self, stage: str, key: str) -> Artifact:
        found = self.store.find(stage, key)
        if found is None:
            raise InputError(
                f"{stage}/{key} is not in the store",
                path=self.store.root,
                fix="run it again, or give its recorded rewards",
            )
        return found


def _rulebook(folder: Path) -> Path:
    path = folder / "config.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return rulebook_path(str(content["rulebook"]))
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError(f"does not name a rulebook ({error})", path=path, fix="run it again") from None
