"""What an update learns from: of each sampled token its log-probabilities, value, reward and advantage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.models.adapters import adapter_off
from trainers.reward.reward import Breakdown
from trainers.rl import formulas
from trainers.rl.config import PPOConfig
from trainers.rl.rollout import Samples
from trainers.rl.token_batch import CriticPass, LanguageModelPass, TokenBatch

WEIGHT_CAP = 2.0  # of the correction for a sampler that is another program


@dataclass(frozen=True)
class Experience:
    """What the update learns from: constants, [rows, time], 0 in the padding.

    Rows are the sampled ones; `scored` lists those that take part, the others are never read.
    """

    scored: list[int]
    mask: Tensor
    log_probs: Tensor
    reference_log_probs: Tensor
    values: Tensor
    rewards: Tensor
    returns: Tensor
    advantages: Tensor


# Advantages and returns from rewards, values and mask, [rows, time] each; unscored rows have no token in the mask.
Estimate = Callable[[Tensor, Tensor, Tensor, PPOConfig, formulas.Reduce], tuple[Tensor, Tensor]]


def gae_estimate(
    rewards: Tensor, values: Tensor, mask: Tensor, config: PPOConfig, reduce: formulas.Reduce
) -> tuple[Tensor, Tensor]:
    """Those of `formulas.gae`; advantages whitened over the tokens of all processes where settings say so."""
    advantages, returns = formulas.gae(rewards, values, mask, config.gamma, config.lam)
    if config.whiten_advantages:
        advantages = formulas.whiten(advantages, mask, reduce)
    return advantages, returns


def judge_tokens(
    samples: Samples,
    breakdown: Breakdown,
    batches: Sequence[TokenBatch],
    policy: LanguageModelPass,
    reference: LanguageModelPass,
    critic: CriticPass | None,
    kl_coef: float,
    config: PPOConfig,
    reduce: formulas.Reduce = formulas.identity,
    estimate: Estimate | None = None,
) -> Experience:
    """Reference log-probabilities, values, rewards and advantages of the rows in `batches`.

    `kl_coef` is that of the reward. Without a critic values are 0; without `estimate` it is `gae_estimate`.
    """
    scored = sorted(row for batch in batches for row in batch.rows.tolist())
    with torch.no_grad():
        old = old_log_probs(samples, batches, policy)
        reference_log_probs = reference_log_probs_of(reference, policy, batches, old)
        values = torch.zeros_like(old) if critic is None else over_batches(critic.values, batches, old)
        mask = samples.mask.clone()
        mask[[row for row in range(len(mask)) if row not in set(scored)]] = False
        totals = torch.nan_to_num(torch.as_tensor(breakdown.total, dtype=torch.float32, device=old.device))
        scores = formulas.bounded_scores(
            totals, samples.finished, config.score_clip, config.missing_eos_penalty
        )
        kl = formulas.kl_k1(old, reference_log_probs)
        rewards = torch.zeros_like(old)
        rewards[scored] = formulas.token_rewards(kl[scored], scores[scored], mask[scored], kl_coef)
        advantages, returns = (estimate or gae_estimate)(rewards, values, mask, config, reduce)
        if samples.elsewhere:
            advantages = advantages * formulas.importance_weights(old, samples.log_probs, mask, WEIGHT_CAP)
    return Experience(scored, mask, old, reference_log_probs, values, rewards, returns, advantages)


def reference_log_probs_of(
    reference: LanguageModelPass, policy: LanguageModelPass, batches: Sequence[TokenBatch], like: Tensor
) -> Tensor:
    """Log-probabilities [rows, time] of the reference: a model of its own, or the policy without its adapter."""
    if reference.model is not policy.model:
        return over_batches(reference.log_probs, batches, like)
    with adapter_off(policy.model):
        return over_batches(policy.log_probs, batches, like)


def old_log_probs(samples: Samples, batches: Sequence[TokenBatch], policy: LanguageModelPass) -> Tensor:
    """The rollout policy's log-probabilities [rows, time].

    In float32 those of the sampling loop serve: they agree with a training pass to rounding. In a
    shorter type, or in another program, the two differ by more than the clip range forgives, and they
    are computed anew.
    """
    if policy.model.dtype == torch.float32 and not samples.elsewhere:
        return samples.log_probs
    return over_batches(policy.log_probs, batches, samples.log_probs)


@torch.no_grad()
def over_batches(
    compute: Callable[[TokenBatch], Tensor], batches: Sequence[TokenBatch], like: Tensor
) -> Tensor:
    """What `compute` gives for each batch, put together as a tensor of all rows; 0 where there is none."""
    whole = torch.zeros_like(like)
    for batch in batches:
        whole[batch.rows[:, None], torch.arange(batch.mask.shape[1], device=like.device)] = compute(batch)
    return whole
