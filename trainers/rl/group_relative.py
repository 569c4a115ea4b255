"""GRPO and RLOO through TRL's trainers, on the same reward, prompts and settings as PPO.

Both sample `group_size` responses a prompt and take the group's mean as baseline, so that no critic is
needed: GRPO divides by the group's deviation and has the KL (k3) in the loss (arXiv 2402.03300), RLOO
takes the mean of the others and has the KL (k1) in the reward (arXiv 2402.14740). `kl_coef` is TRL's
`beta` in both; GRPO's advantages have unit deviation, so that its `kl_coef` counts against deviations of
the reward, not against its units.

One update is one round of `batch_size` responses with `epochs` optimiser steps, as in PPO. A killed run
begins anew: TRL's own state is a pickle, which is never loaded here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from evals.values.conversation import Prompt, Response, messages_as_json
from trainers.models.adapters import adapter, merged
from trainers.reward.function import RewardFunction
from trainers.reward.reward import Breakdown, Reward
from trainers.rl.checkpoint import write_folder
from trainers.rl.config import Algorithm, PPOConfig, check_groups
from trainers.rl.monitor import HeldOut, Monitor
from trainers.rl.rollout import prompt_set
from trainers.supervised.progress import quieten

log = logging.getLogger(__name__)

TRAINERS: dict[Algorithm, tuple[Any, Any, dict[str, Any]]] = {
    Algorithm.GRPO: (GRPOTrainer, GRPOConfig, {"loss_type": "grpo"}),
    Algorithm.RLOO: (RLOOTrainer, RLOOConfig, {}),
}
# TRL's names of what PPO reports too; its `kl` is a mean over tokens.
NAMES = {
    "reward": "objective/score",
    "entropy": "objective/entropy",
    "completions/mean_length": "response/length",
    "clip_ratio/region_mean": "policy/clip_fraction",
    "learning_rate": "policy/learning_rate",
    "loss": "policy/loss",
    "grad_norm": "policy/gradient_norm",
}
PREFIXES = ("score/", "contribution/", "reward/unscored_share")


def train_group_relative(
    algorithm: Algorithm,
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    reward: Reward,
    config: PPOConfig,
    out: Path,
    progress: Callable[[int], None] | None = None,
    *,
    group_size: int = 8,
    lora_rank: int = 0,
    lora_layers: int = 0,
    held_out: HeldOut | None = None,
) -> None:
    """Train `policy`, float32, and write metrics.jsonl and the checkpoints of `config.save_points` to `out`.

    A policy from a folder is its own reference, loaded from there again. Raises InputError for settings
    that the algorithm does not have, UndecidableError when too many responses stay unscored.
    """
    check_groups(algorithm, config, group_size)
    prompt_set(prompts, tokenizer, (policy,), config)
    kind, arguments, more = TRAINERS[algorithm]
    watch = _Watch(config, tokenizer, out, held_out, progress)
    trainer = kind(
        model=policy,
        reward_funcs=RewardFunction(
            Bounded(reward, config), config.max_unscored, int(tokenizer.eos_token_id), "reward"
        ),
        args=arguments(**_arguments(config, group_size, out), **more),
        train_dataset=_dataset(prompts),
        processing_class=tokenizer,
        peft_config=adapter(lora_rank, "CAUSAL_LM", lora_layers, policy),
        callbacks=[watch],
    )
    quieten(trainer)
    trainer.train()


class Bounded:
    """A reward whose totals are clipped, and lowered where the limit cut the response, as PPO's scores are."""

    def __init__(self, reward: Reward, config: PPOConfig) -> None:
        self.reward, self._config = reward, config

    def __call__(self, responses: Sequence[Response]) -> Breakdown:
        breakdown = self.reward(responses)
        cut = np.array([not response.finished for response in responses])
        total = np.clip(breakdown.total, -self._config.score_clip, self._config.score_clip)
        return replace(breakdown, total=total - self._config.missing_eos_penalty * cut)


def _arguments(config: PPOConfig, group_size: int, out: Path) -> dict[str, Any]:
    size = min(config.micro_batch_size, config.batch_size)
    steps = config.updates * config.epochs
    cuda = torch.cuda.is_available()
    return {
        "output_dir": str(out / "trainer"),
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": config.batch_size // size,
        "num_iterations": config.epochs,
        "num_generations": group_size,
        "max_completion_length": config.max_new_tokens,
        "max_steps": steps,
        "temperature": config.temperature,
        "top_k": 0,
        "beta": config.kl_coef,
        "epsilon": config.clip,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "linear" if config.anneal else "constant_with_warmup",
        "warmup_steps": config.warmup * config.epochs,
        "adam_epsilon": config.adam_eps,
        "weight_decay": 0.0,
        "max_grad_norm": config.max_grad_norm,
        "gradient_checkpointing": config.gradient_checkpointing,
        "disable_dropout": True,
        "remove_unused_columns": False,
        "logging_steps": config.epochs,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": not cuda,
        "bf16": cuda,
        "seed": config.seed,
    }


def _dataset(prompts: Sequence[Prompt]) -> Dataset:
    return Dataset.from_list(
        [
            {
                "prompt": messages_as_json(prompt.messages),
                "response_type": prompt.response_type.value if prompt.response_type else None,
                "category": prompt.category,
                "id": prompt.id,
            }
            for prompt in prompts
        ]
    )


class _Watch(TrainerCallback):
    """Writes a row an update under PPO's names, saves the policies for evaluation, watches held-out responses."""

    def __init__(
        self,
        config: PPOConfig,
        tokenizer: PreTrainedTokenizerBase,
        out: Path,
        held_out: HeldOut | None,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.config, self.tokenizer, self.out = config, tokenizer, out
        self.monitor, self.progress = Monitor(held_out, tokenizer, config), progress
        self.rows: list[dict[str, Any]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.monitor.look_at_start(model)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Any = None, model: Any = None, **_: Any
    ) -> None:
        if not logs or "reward" not in logs or not state.is_world_process_zero:
            return
        row = metrics_row(state.global_step // self.config.epochs, logs)
        row |= self.monitor.look(model, self.rows, row)
        self.rows.append(row)
        with open(self.out / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self.progress is not None:
            self.progress(1)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        update, rest = divmod(state.global_step, self.config.epochs)
        if rest == 0 and update in self.config.save_points and state.is_world_process_zero:
            write_folder(self.out / f"checkpoint-{update}", lambda folder: self._save(model, folder))

    def _save(self, model: Any, folder: Path) -> None:
        """A plain model: adapters are folded in for the moment of saving."""
        from copy import deepcopy

        plain = merged(deepcopy(model)) if hasattr(model, "merge_and_unload") else model
        plain.save_pretrained(str(folder), safe_serialization=True)
        self.tokenizer.save_pretrained(str(folder))


def metrics_row(update: int, logs: dict[str, Any]) -> dict[str, Any]:
    """TRL's log of an update under the names of PPO's metrics; nats a response for the KL."""
    row: dict[str, Any] = {"update": update}
    row |= {ours: float(logs[theirs]) for theirs, ours in NAMES.items() if theirs in logs}
    if "kl" in logs:
        row["objective/kl"] = float(logs["kl"]) * row["response/length"]
    if "completions/clipped_ratio" in logs:
        row["response/eos_share"] = 1.0 - float(logs["completions/clipped_ratio"])
    return row | {key: float(value) for key, value in logs.items() if key.startswith(PREFIXES)}
