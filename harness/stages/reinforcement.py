"""Stage 9: reinforcement learning, one run a method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from evals.conversation import Prompt, read_jsonl, read_prompts
from evals.models import load_causal_lm, load_reward_model, load_tokenizer
from harness.config import Source
from harness.methods import Method
from harness.stages.context import Context
from harness.stages.held_out import held_out_for
from harness.stages.reward import reward_for
from harness.store import Artifact
from trainers.ppo_alarm import ALARM
from trainers.ppo_config import Algorithm, PPOConfig
from trainers.ppo_monitor import HeldOut
from trainers.reward import Reward

# They change memory, speed or how much a kill loses, never the result.
WITHOUT_EFFECT = ("micro_batch_size", "save_every", "offload", "seed")


def reinforce(
    context: Context,
    method: Method,
    data: Artifact,
    start: Artifact,
    reward_model: Artifact,
    grader: Artifact | None,
    weights: Artifact | None,
    judge: Artifact,
) -> Artifact:
    """Train the method's policy from its SFT model by the run's algorithm, a critic from its reward model.

    A killed PPO run goes on from its last saved state; the other algorithms begin anew.
    """
    config = context.config
    label = f"{config.algorithm.value}: {method.name}"

    def build(out: Path) -> dict[str, Any]:
        reward = reward_for(context, method, data, reward_model, grader, weights)
        with context.console.stage(label, total=config.ppo.updates, unit="updates") as advance:
            job = _Job(context, method, data, start, reward_model, judge, reward, out, advance)
            _TRAIN[config.algorithm](job)
        return _outcome(out)

    inputs = {"data": data, "start": start, "reward_model": reward_model}
    if config.data.source is not Source.SANDBOX:
        inputs["judge"] = judge
    if method.rule_based and grader is not None and weights is not None:
        inputs |= {"grader": grader, "weights": weights}
    settings = {k: v for k, v in asdict(config.ppo).items() if k not in WITHOUT_EFFECT}
    grouped = config.algorithm in (Algorithm.GRPO, Algorithm.RLOO)
    return context.stage(
        label,
        build,
        config={
            "ppo": settings,
            "group_size": config.group_size if grouped else None,
            "rule_based": method.rule_based,
            "safety_prompts": method.safety_prompts,
            "rulebook": context.rulebook.digest,
            "lora_rank": config.model.lora_rank,
        },
        inputs=inputs,
        modules=[_MODULES[config.algorithm], "trainers.reward", "harness.stages.held_out"],
        packages=["trl"] if grouped else [],
        resumable=config.algorithm is Algorithm.PPO,
    )


@dataclass(frozen=True)
class _Job:
    """One training, with all that it starts from."""

    context: Context
    method: Method
    data: Artifact
    start: Artifact
    reward_model: Artifact
    judge: Artifact
    reward: Reward
    out: Path
    advance: Callable[[int], None]

    @property
    def settings(self) -> PPOConfig:
        return replace(self.context.config.ppo, seed=self.context.config.seed)

    @property
    def held_out(self) -> HeldOut:
        return held_out_for(self.context, self.method, self.data, self.judge)

    def policy(self, dtype: torch.dtype) -> PreTrainedModel:
        return load_causal_lm(self.start.path, dtype)


def _ppo(job: _Job) -> None:
    from trainers.adapters import add_adapter
    from trainers.ppo import train_ppo

    config = job.context.config
    dtype, rank = config.model.precision.dtype, config.model.lora_rank
    train_ppo(
        add_adapter(job.policy(dtype), rank, config.seed),
        add_adapter(load_reward_model(job.reward_model.path, dtype), rank, config.seed),
        None if rank else job.policy(dtype),
        load_tokenizer(job.start.path),
        prompts_for(job.method, job.data),
        job.reward,
        job.settings,
        job.out,
        job.advance,
        held_out=job.held_out,
        trackers=config.trackers,
    )


def _group_relative(job: _Job) -> None:
    from trainers.group_relative import train_group_relative

    config = job.context.config
    train_group_relative(
        config.algorithm,
        job.policy(torch.float32),  # TRL trains float32 weights, under autocast on a GPU
        load_tokenizer(job.start.path),
        prompts_for(job.method, job.data),
        job.reward,
        job.settings,
        job.out,
        job.advance,
        group_size=config.group_size,
        lora_rank=config.model.lora_rank,
        held_out=job.held_out,
    )


def _reinforce(job: _Job) -> None:
    from trainers.adapters import add_adapter
    from trainers.reinforce import train_reinforce

    config = job.context.config
    dtype, rank = config.model.precision.dtype, config.model.lora_rank
    train_reinforce(
        add_adapter(job.policy(dtype), rank, config.seed),
        job.policy(dtype),
        load_tokenizer(job.start.path),
        prompts_for(job.method, job.data),
        job.reward,
        job.settings,
        job.out,
        job.advance,
    )


_TRAIN: dict[Algorithm, Callable[[_Job], None]] = {
    Algorithm.PPO: _ppo,
    Algorithm.GRPO: _group_relative,
    Algorithm.RLOO: _group_relative,
    Algorithm.REINFORCE: _reinforce,
}
_MODULES = {
    Algorithm.PPO: "trainers.ppo",
    Algorithm.GRPO: "trainers.group_relative",
    Algorithm.RLOO: "trainers.group_relative",
    Algorithm.REINFORCE: "trainers.reinforce",
}


def _outcome(out: Path) -> dict[str, Any]:
    """For the stage's line: how far it came, and in how many looks at held-out responses the alarm was up."""
    rows = read_jsonl(out / "metrics.jsonl", lambda row: row.values)
    looked = [row[ALARM] for row in rows if ALARM in row]
    return {"updates": rows[-1]["update"]} | ({"alarms": int(sum(looked))} if looked else {})


def prompts_for(method: Method, data: Artifact) -> list[Prompt]:
    helpful = read_prompts(data.path / "prompts_helpful.jsonl")
    return helpful + read_prompts(data.path / "prompts_safety.jsonl") if method.safety_prompts else helpful


def checkpoints_of(method: Method, artifact: Artifact) -> dict[str, Path]:
    """{checkpoint: folder}: the last updates' policies of PPO, or the one model of SFT."""
    if not method.is_ppo:
        return {"sft": artifact.path}
    folders = sorted(artifact.path.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    return {folder.name.split("-")[1]: folder for folder in folders}
