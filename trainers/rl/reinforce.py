"""REINFORCE with a baseline: the simplest policy gradient, and what the others are measured against.

The gradient of E[R] is E[(R - b) grad log p(response)] (Williams 1992); R is the score less kl_coef
times the response's KL (k1) to the reference, b the mean R of the batch's other responses. One pass over
each batch: no critic, no ratio, no clipping, no epochs. One process, no resume: a page to read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.values.conversation import Prompt
from trainers.devices.optimizer import adam
from trainers.devices.processes import Processes
from trainers.models.adapters import save_plain
from trainers.reward.reward import Breakdown, Reward
from trainers.rl import formulas
from trainers.rl.checkpoint import write_folder
from trainers.rl.config import Algorithm, PPOConfig, check_algorithm
from trainers.rl.metrics import Averages, add_reward
from trainers.rl.monitor import HeldOut, Monitor
from trainers.rl.rollout import PromptSet, Samples, over_batches, prompt_set, sample, scored_rows
from trainers.rl.token_batch import LanguageModelPass, TokenBatch, micro_batches


def train_reinforce(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    reward: Reward,
    config: PPOConfig,
    out: Path,
    progress: Callable[[int], None] | None = None,
    *,
    held_out: HeldOut | None = None,
) -> None:
    """Train `policy` in place; writes metrics.jsonl and the checkpoints of `config.save_points` to `out`.

    `held_out` is looked at every `config.monitor_every` updates, as PPO does. Raises InputError for what
    can not be trained with, UndecidableError when too many responses of an update stay unscored.
    """
    check_algorithm(Algorithm.REINFORCE, config)
    out.mkdir(parents=True, exist_ok=True)
    data = prompt_set(prompts, tokenizer, (policy, reference), config)
    run = _Run.start(policy, reference, tokenizer, data, reward, config)
    rows: list[dict[str, Any]] = []
    monitor = Monitor(held_out, tokenizer, config)
    monitor.look_at_start(policy)
    for update in range(1, config.updates + 1):
        row = run.next_update(update)
        row |= monitor.look(policy, rows, row)
        rows.append(row)
        _record(out, row)
        if update in config.save_points:
            write_folder(out / f"checkpoint-{update}", lambda folder: save_plain(policy, tokenizer, folder))
        if progress is not None:
            progress(1)


@dataclass
class _Run:
    policy: LanguageModelPass
    reference: LanguageModelPass
    tokenizer: PreTrainedTokenizerBase
    data: PromptSet
    reward: Reward
    config: PPOConfig
    optimizer: torch.optim.Optimizer
    generator: torch.Generator

    @classmethod
    def start(
        cls,
        policy: PreTrainedModel,
        reference: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        data: PromptSet,
        reward: Reward,
        config: PPOConfig,
    ) -> _Run:
        trained = LanguageModelPass(policy.eval(), config.temperature, config.gradient_checkpointing)
        compared = LanguageModelPass(reference.eval(), config.temperature)
        group: dict[str, Any] = {"params": list(policy.parameters())}
        optimizer, generator = adam([group], config.adam_eps), torch.Generator().manual_seed(config.seed)
        return cls(trained, compared, tokenizer, data, reward, config, optimizer, generator)

    def next_update(self, update: int) -> dict[str, Any]:
        """One batch and one step up the gradient; returns the update's metrics."""
        config = self.config
        samples = self._sample(update)
        breakdown = self.reward(samples.responses)
        scored = scored_rows(breakdown, len(samples.responses), config.max_unscored, Processes())
        size, pad = config.micro_batch_size, int(self.tokenizer.pad_token_id)
        batches = micro_batches(samples.prompt_ids, samples.tokens, samples.lengths, scored, size, pad)
        kl, rewards = self._rewards(samples, breakdown, batches)
        advantages = torch.zeros_like(kl)
        advantages[scored] = leave_one_out(rewards[scored])
        told = self._step(update, batches, advantages, len(scored))
        averages = Averages()
        add_reward(averages, samples, breakdown)
        averages.add_all("objective/entropy", samples.entropy[samples.mask])
        averages.add_all("objective/kl", kl[scored])
        averages.add_all("objective/reward", rewards[scored])
        return {"update": update} | averages.means(Processes()) | told

    def _sample(self, update: int) -> Samples:
        config = self.config
        rows = self.data.rows(update, config.batch_size, config.seed)
        uniforms = torch.rand(
            config.batch_size, config.max_new_tokens, generator=self.generator, dtype=torch.float64
        )
        return sample(self.policy.model, self.tokenizer, self.data, rows, config, uniforms)

    def _rewards(
        self, samples: Samples, breakdown: Breakdown, batches: Sequence[TokenBatch]
    ) -> tuple[Tensor, Tensor]:
        """Of each response its KL and its reward, the score less the KL's price [batch] each."""
        config = self.config
        reference_log_probs = over_batches(self.reference.log_probs, batches, samples.log_probs)
        kl = torch.where(samples.mask, samples.log_probs - reference_log_probs, 0.0).sum(1)
        totals = torch.as_tensor(np.nan_to_num(breakdown.total), dtype=torch.float32, device=kl.device)
        scores = formulas.bounded_scores(
            totals, samples.finished, config.score_clip, config.missing_eos_penalty
        )
        return kl, scores - config.kl_coef * kl

    def _step(
        self, update: int, batches: Sequence[TokenBatch], advantages: Tensor, count: int
    ) -> dict[str, float]:
        """`advantages` [batch] of which `count` responses have one; returns what the step is told by."""
        config = self.config
        for batch in batches:
            log_probs = self.policy.log_probs(batch).sum(1)
            (-(advantages[batch.rows] * log_probs).sum() / count).backward()
        rate = config.learning_rate * formulas.learning_rate_factor(
            update, config.updates, config.warmup, config.anneal
        )
        weights = [p for group in self.optimizer.param_groups for p in group["params"]]
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        norm = nn.utils.clip_grad_norm_(weights, config.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {"policy/learning_rate": rate, "policy/gradient_norm": float(norm)}


def leave_one_out(rewards: Tensor) -> Tensor:
    """Each reward less the mean of the others [n]; 0 for a single one, which nothing compares with."""
    others = (rewards.sum() - rewards) / max(len(rewards) - 1, 1)
    return rewards - others if len(rewards) > 1 else torch.zeros_like(rewards)


def _record(out: Path, row: dict[str, Any]) -> None:
    with open(out / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
