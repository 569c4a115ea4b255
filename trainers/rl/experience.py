"""What an update learns from: of each sampled token its log-probabilities, value, reward and advantage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.devices.sharding import is_sharded
from trainers.models.adapters import adapter_off
from trainers.reward.reward import Breakdown
from trainers.rl import formulas
from trainers.rl.config import PPOConfig
from trainers.rl.rollout import Samples
from trainers.rl.token_batch import (
    CriticPass,
    LanguageModelPass,
    TokenBatch,
    log_probs_and_values,
    one_trunk,
)

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
    types: Tensor | None = None,
) -> Experience:
    """Reference log-probabilities, values, rewards and advantages of the rows in `batches`.

    `kl_coef` is that of the reward. Without a critic values are 0; without `estimate` it is `gae_estimate`. With
    `types` [types, batch] scores have the baseline of their type (`config.score_baseline`).
    """
    scored = sorted(row for batch in batches for row in batch.rows.tolist())
    with torch.no_grad():
        like = samples.log_probs
        # The reference first: it may be the policy's own pass with the adapter off.
        reference_log_probs = reference_log_probs_of(reference, policy, batches, like)
        # The graph of one micro-batch is what a step holds anyway; offloading wants the room for the reference.
        if batches and config.minibatches == 1 and not config.offload:
            pass_ahead(batches[0], samples, policy, critic)
        old, values = old_log_probs_and_values(samples, batches, policy, critic)
        mask = samples.mask.clone()
        mask[[row for row in range(len(mask)) if row not in set(scored)]] = False
        totals = torch.nan_to_num(torch.as_tensor(breakdown.total, dtype=torch.float32, device=old.device))
        scores = formulas.bounded_scores(
            totals, samples.finished, config.score_clip, config.missing_eos_penalty
        )
        kl = formulas.kl_k1(old, reference_log_probs)
        rewards = learnt = _token_rewards(kl, scores, mask, scored, kl_coef)
        if types is not None:
            compared = formulas.less_others_of_type(scores, types & mask.any(1), reduce)
            learnt = _token_rewards(kl, compared, mask, scored, kl_coef)
        advantages, returns = (estimate or gae_estimate)(learnt, values, mask, config, reduce)
        if samples.elsewhere:
            advantages = advantages * formulas.importance_weights(old, samples.log_probs, mask, WEIGHT_CAP)
    return Experience(scored, mask, old, reference_log_probs, values, rewards, returns, advantages)


def _token_rewards(kl: Tensor, scores: Tensor, mask: Tensor, scored: list[int], kl_coef: float) -> Tensor:
    """Those of `formulas.token_rewards`, 0 in rows that are not scored."""
    rewards = torch.zeros_like(kl)
    rewards[scored] = formulas.token_rewards(kl[scored], scores[scored], mask[scored], kl_coef)
    return rewards


def reference_log_probs_of(
    reference: LanguageModelPass, policy: LanguageModelPass, batches: Sequence[TokenBatch], like: Tensor
) -> Tensor:
    """Log-probabilities [rows, time] of the reference: a model of its own, or the policy without its adapter."""
    if reference.model is not policy.model:
        return over_batches(reference.log_probs, batches, like)
    with adapter_off(policy.model):
        return over_batches(policy.log_probs, batches, like)


def pass_ahead(
    batch: TokenBatch, samples: Samples, policy: LanguageModelPass, critic: CriticPass | None
) -> None:
    """The passes that the round's first step differentiates, made before it: their values serve to judge tokens.

    No weight changes between the two, so that the step finds what it would have computed. Not of a model that is
    split over processes.
    """
    if is_sharded(policy.model) or (critic is not None and is_sharded(critic.model)):
        return
    with torch.enable_grad():
        if critic is not None and one_trunk(policy, critic):
            batch.ahead[policy], batch.ahead[critic] = log_probs_and_values(policy, critic, batch)
            return
        if anew(samples, policy):
            batch.ahead[policy] = policy.log_probs(batch)
        if critic is not None:
            batch.ahead[critic] = critic.values(batch)


def old_log_probs_and_values(
    samples: Samples, batches: Sequence[TokenBatch], policy: LanguageModelPass, critic: CriticPass | None
) -> tuple[Tensor, Tensor]:
    """The rollout policy's log-probabilities and the critic's values, 0 without one: [rows, time] each."""
    sampled = samples.log_probs
    if not anew(samples, policy):
        return sampled, values_of(critic, batches, sampled)
    if critic is None or not one_trunk(policy, critic):
        return over_batches(policy.log_probs, batches, sampled), values_of(critic, batches, sampled)
    both = torch.stack([sampled, sampled])
    old, values = over_batches(
        lambda batch: torch.stack(log_probs_and_values(policy, critic, batch)), batches, both
    )
    return old, values


def values_of(critic: CriticPass | None, batches: Sequence[TokenBatch], like: Tensor) -> Tensor:
    """The critic's values [rows, time]; 0 without one."""
    return torch.zeros_like(like) if critic is None else over_batches(critic.values, batches, like)


def anew(samples: Samples, policy: LanguageModelPass) -> bool:
    """Whether the policy's log-probabilities are computed again after sampling.

    In float32 those of the sampling loop serve: they agree with a training pass to rounding. In a
    shorter type, or in another program, the two differ by more than the clip range forgives.
    """
    return policy.model.dtype != torch.float32 or samples.elsewhere


@torch.no_grad()
def over_batches(
    compute: Callable[[TokenBatch], Tensor], batches: Sequence[TokenBatch], like: Tensor
) -> Tensor:
    """What `compute` gives for each batch, [..., batch, time], put together for all rows; 0 where there is none."""
    whole = torch.zeros_like(like)
    for batch in batches:
        columns = torch.arange(batch.mask.shape[1], device=like.device)
        whole[..., batch.rows[:, None], columns] = compute(batch)
    return whole
