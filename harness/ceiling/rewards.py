"""A reward as the ceiling asks it: what the gate opens, and that of a run's method without rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evals.graders import Grader
from evals.values.errors import InputError
from evals.values.located_yaml import load_located_yaml
from harness.gate.gate import RewardSource, open_source
from harness.gate.rewards import RewardSide, score, score_recorded
from harness.keys.methods import with_outside
from harness.record.finished_run import RunAddress, RunStages, is_run
from harness.record.manifest import read_manifest
from harness.runtime.console import Advance
from harness.subjects.completions import CompletionFile
from harness.subjects.sample_set import SampleSet
from trainers.reward.kinds import REWARD_MODEL
from trainers.reward.reward import Reward
from trainers.rl.config import Algorithm, KLController


@dataclass(frozen=True)
class CeilingSource:
    """A reward that is opened and not asked yet; `model` alone pays where a method has no rules.

    `settings` are those of the training that it was made for: ppo's keys; empty where there is none.
    """

    given: str
    source: RewardSource | None
    model: Reward | None = None
    settings: Mapping[str, Any] | None = None

    @property
    def grader(self) -> Grader | None:
        """None of what is recorded, and of a reward model alone."""
        return self.source.grader if self.source is not None else None

    def pay(self, samples: SampleSet, advance: Advance) -> RewardSide:
        """What it says of every sample. Raises InputError where it has none of them, or lacks a response type."""
        if self.model is not None:
            return RewardSide(self.given, "run", self.model(samples.responses))
        assert self.source is not None
        if self.source.live is None:
            return replace(score_recorded(self.source.path, samples), source=self.given)
        return score(self.given, self.source.kind, self.source.live, samples, advance)


def graders_of(opened: Mapping[str, CeilingSource]) -> dict[str, Grader]:
    """Who is asked for each reward, where somebody is."""
    return {name: one.grader for name, one in opened.items() if one.grader is not None}


def open_reward(given: str, field: str, cache: Path, samples: Path) -> CeilingSource:
    """A description, a recording, a fit, or a run with its method. Raises InputError for what holds no reward."""
    address = RunAddress.parse(given)
    if not is_run(address.folder):
        return CeilingSource(given, open_source(given, field, cache, CompletionFile(samples, None)))
    settings = run_settings(address)
    method = address.method.partition("[")[0]
    if method and not _has_rules(address, method):
        return CeilingSource(given, None, _reward_model(address), settings)
    source = open_source(given, field, cache, CompletionFile(samples, None))
    return CeilingSource(given, source, None, settings)


def run_settings(address: RunAddress) -> Mapping[str, Any]:
    """The `ppo` keys that a run, or the named variant of a sweep, was told; empty where its record has none.

    Without `kl_coef` where that is no price of a nat in the reward's units, the same in the whole training.
    """
    path = address.folder / "config.yaml"
    told = load_located_yaml(path) if path.is_file() else {}
    if not isinstance(told.get("ppo"), Mapping):
        return {}
    swept = dict(pair.split("=", 1) for pair in _variant(address).split(",") if "=" in pair)
    found = dict(told["ppo"]) | {
        key.removeprefix("ppo."): _typed(value) for key, value in swept.items() if key.startswith("ppo.")
    }
    algorithm = str(swept.get("algorithm", told.get("algorithm", ""))).lower()
    moves = str(found.get("kl_controller", "")).lower() == KLController.ADAPTIVE.value
    if moves or algorithm == Algorithm.GRPO.value:
        found.pop("kl_coef", None)
    return found


def _typed(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


def _variant(address: RunAddress) -> str:
    """What tells a run of a sweep apart beside the seed: `ppo.kl_coef=0.1`; "" where none is named."""
    return address.method.partition("[")[2].removesuffix("]")


def _has_rules(address: RunAddress, name: str) -> bool:
    methods = with_outside(read_manifest(address.folder).get("outside_methods", ()))
    for method in methods.values():
        if name in (method.name, *(method.named(algorithm) for algorithm in Algorithm)):
            if method.reward_model is None:
                fix = "name one that is trained on a reward"
                raise InputError(f"{name} is trained on no reward", path=address.folder, fix=fix)
            if not method.rule_based and method.terms != (REWARD_MODEL,):
                fix = "give its recorded rewards"
                raise InputError(f"{name} has reward terms of its own", path=address.folder, fix=fix)
            return method.rule_based
    raise InputError(f"unknown method {name!r}", path=address.folder, fix=f"use {', '.join(methods)}")


def _reward_model(address: RunAddress) -> Reward:
    """The reward model of a method without rules. Loads torch."""
    from harness.pipeline.reward_model_term import reward_model_term
    from harness.runtime.libraries import no_progress_bars

    no_progress_bars()
    stages = RunStages(address.folder)
    name = address.method.partition("[")[0]
    rows = [
        row
        for algorithm in Algorithm
        for row in stages.having(algorithm.value)
        if _names(row, name)
        and address.seed in (None, row.get("seed"))
        and _variant(address) in ("", row.get("variant", ""))
    ]
    keys = {row["key"]: row for row in rows}
    if len(keys) != 1:
        problem = f"{'several trainings' if keys else 'no training'} of {address.method} lie here"
        raise InputError(
            problem, path=address.folder, fix=f"name method and seed: {address.folder}:METHOD:SEED"
        )
    (row,) = keys.values()
    inputs = stages.find(str(row["stage"]).split(":")[0], str(row["key"])).manifest["inputs"]
    model = stages.find(inputs["reward_model"]["stage"], inputs["reward_model"]["key"])
    data = stages.beside(row, "data")
    return reward_model_term(data or stages.find("data", inputs["data"]["key"]), model)


def _names(row: Mapping[str, Any], name: str) -> bool:
    """Whether a stage, `ppo: human_ppo`, trained the method, as results or the table call it."""
    algorithm, _, method = str(row["stage"]).partition(": ")
    return name in (method, f"{method.removesuffix('_ppo')}_{algorithm}")
