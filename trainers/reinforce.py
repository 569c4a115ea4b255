"""REINFORCE with a baseline: the simplest policy gradient, and what the others are measured against.

The gradient of E[R] is E[(R - b) grad log p(response)] (Williams 1992); R is the score less kl_coef
times the response's KL (k1) to the reference, b the mean R of the batch's other responses. One pass over
each batch: no critic, no ratio, no clipping, no epochs. One process, no resume: a page to read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.conversation import Prompt
from trainers import ppo_math
from trainers.adapters import save_plain
from trainers.ppo_checkpoint import write_folder
from trainers.ppo_config import Algorithm, PPOConfig, check_algorithm
from trainers.ppo_metrics import Averages, add_reward
from trainers.ppo_optimizer import adam
from trainers.processes import Processes
from trainers.reward import Reward
from trainers.rollout import over_batches, prompt_set, sample, scored_rows
from trainers.token_batch import LanguageModelPass, micro_batches


def train_reinforce(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    reward: Reward,
    config: PPOConfig,
    out: Path,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Train `policy` in place; writes metrics.jsonl and the checkpoints of `config.save_points` to `out`.

    Raises InputError for what can not be trained with, UndecidableError when too many responses of an
    update stay unscored.
    """
    check_algorithm(Algorithm.REINFORCE, config)
    data = prompt_set(prompts, tokenizer, (policy, reference), config)
    language_model = LanguageModelPass(policy.eval(), config.temperature, config.gradient_checkpointing)
    reference_pass = LanguageModelPass(reference.eval(), config.temperature)
    group: dict[str, Any] = {"params": list(policy.parameters())}
    optimizer, generator = adam([group], config.adam_eps), torch.Generator().manual_seed(config.seed)
    for update in range(1, config.updates + 1):
        rows = data.rows(update, config.batch_size, config.seed)
        uniforms = torch.rand(
            config.batch_size, config.max_new_tokens, generator=generator, dtype=torch.float64
        )
        samples = sample(policy, tokenizer, data, rows, config, uniforms)
        breakdown = reward(samples.responses)
        scored = scored_rows(breakdown, len(rows), config.max_unscored_share, Processes())
        size, pad = config.micro_batch_size, int(tokenizer.pad_token_id)
        batches = micro_batches(samples.prompt_ids, samples.tokens, samples.lengths, scored, size, pad)

        # What each response is worth, and how much more than the others.
        reference_log_probs = over_batches(reference_pass.log_probs, batches, samples.log_probs)
        kl = torch.where(samples.mask, samples.log_probs - reference_log_probs, 0.0).sum(1)
        totals = torch.as_tensor(np.nan_to_num(breakdown.total), dtype=torch.float32, device=kl.device)
        scores = ppo_math.bounded_scores(
            totals, samples.finished, config.score_clip, config.missing_eos_penalty
        )
        advantages = leave_one_out((scores - config.kl_coef * kl)[scored])
        by_row = torch.zeros_like(kl)
        by_row[scored] = advantages

        # One step up the gradient.
        for batch in batches:
            log_probs = language_model.log_probs(batch).sum(1)
            (-(by_row[batch.rows] * log_probs).sum() / len(scored)).backward()
        factor = ppo_math.learning_rate_factor(update, config.updates, config.warmup, config.anneal)
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        norm = nn.utils.clip_grad_norm_(weights, config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        averages = Averages()
        add_reward(averages, samples, breakdown)
        averages.add_all("objective/entropy", samples.entropy[samples.mask])
        averages.add_all("objective/kl", kl[scored])
        averages.add_all("objective/reward", (scores - config.kl_coef * kl)[scored])
        told = {"policy/learning_rate": config.learning_rate * factor, "policy/gradient_norm": float(norm)}
        _record(out, {"update": update} | averages.means(Processes()) | told)
        if update in config.save_points:
            write_folder(out / f"checkpoint-{update}", lambda folder: save_plain(policy, tokenizer, folder))
        if progress is not None:
            progress(1)


def leave_one_out(rewards: Tensor) -> Tensor:
    """Each reward less the mean of the others [n]; 0 for a single one, which nothing compares with."""
    others = (rewards.sum() - rewards) / max(len(rewards) - 1, 1)
    return rewards - others if len(rewards) > 1 else torch.zeros_like(rewards)


def _record(out: Path, row: dict[str, Any]) -> None:
    with open(out / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
