"""The formulas of PPO and its kin for language models: pure functions of tensors.

Per-token tensors are [batch, time] with a boolean mask of the same shape, True on the tokens of the
response (its EOS included); every formula ignores the rest. Sources: Schulman et al. 2017
(arXiv 1707.06347) for the losses, 2015 (arXiv 1506.02438) for GAE, Ziegler et al. 2019
(github.com/openai/lm-human-preferences) for the KL penalty and its controller; an algorithm's own
formulas name theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Reduce = Callable[[Tensor], Tensor]
"""Adds a tensor over processes; the identity where there is one."""


def identity(tensor: Tensor) -> Tensor:
    return tensor


def token_log_probs(logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability [n] of each of `tokens` [n] under `logits` [n, vocabulary] / temperature."""
    scaled = logits.float() if temperature == 1.0 else logits.float() / temperature
    return -torch.nn.functional.cross_entropy(scaled, tokens, reduction="none")


def kl_k1(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """The k1 estimate of KL(policy || reference) per token (Schulman 2020, joschu.net/blog/kl-approx)."""
    return log_probs - reference_log_probs


def kl_k3(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """The k3 estimate: unbiased as k1, never negative, of lower variance."""
    log_ratio = reference_log_probs - log_probs
    return torch.expm1(log_ratio) - log_ratio


def bounded_scores(
    totals: Tensor, finished: Tensor, score_clip: float | None, missing_eos_penalty: float
) -> Tensor:
    """Scores [batch]: totals clipped to ±score_clip, less the penalty where the limit cut the response.

    The penalty is taken off after clipping, so that it bites for every score.
    """
    scores = totals if score_clip is None else totals.clamp(-score_clip, score_clip)
    return scores - missing_eos_penalty * (~finished).to(scores.dtype)


def token_rewards(kl: Tensor, scores: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """Rewards [batch, time]: -kl_coef * kl on each token, and the score [batch] on the last real one."""
    rewards = torch.where(mask, -kl_coef * kl, 0.0)
    last = mask.sum(1) - 1
    rewards[torch.arange(len(rewards)), last] += scores
    return rewards


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and returns, [batch, time] each (arXiv 1506.02438, eq. 16).

    A response is an episode: after its last token the value is 0.
    """
    values = torch.where(mask, values, 0.0)
    advantages = torch.zeros_like(values)
    following, next_value = torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        following = torch.where(mask[:, t], delta + gamma * lam * following, 0.0)
        advantages[:, t], next_value = following, values[:, t]
    return advantages, advantages + values


def whiten(x: Tensor, mask: Tensor, reduce: Reduce = identity) -> Tensor:
    """`x` [batch, time] with mean 0 and variance 1 over the masked tokens of all processes, 0 elsewhere."""
    count = reduce(mask.sum().to(x.dtype))
    mean = reduce(torch.where(mask, x, 0.0).sum()) / count
    centred = torch.where(mask, x - mean, 0.0)
    variance = reduce(centred.square().sum()) / (count - 1).clamp(min=1)
    return centred * torch.rsqrt(variance + 1e-8)


def importance_weights(log_probs: Tensor, sampler_log_probs: Tensor, mask: Tensor, cap: float) -> Tensor:
    """min(p_trainer / p_sampler, cap) per token, 0 in the padding: corrects for a sampler that rounds otherwise.

    Truncated importance sampling (Ionides 2008; for PPO with a separate inference engine Yao et al. 2025,
    "Your efficient RL framework secretly brings you off-policy RL training").
    """
    return torch.where(mask, (log_probs - sampler_log_probs).exp().clamp(max=cap), 0.0)


@dataclass(frozen=True)
class Loss:
    """A loss and its diagnostics, each summed over tokens; divide by the global token count.

    `by_token` [batch, time] is the loss before it is summed, 0 in the padding.
    """

    total: Tensor
    clipped: Tensor
    ratio: Tensor
    approx_kl: Tensor
    by_token: Tensor


def policy_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor, clip: float
) -> Loss:
    """The clipped surrogate (arXiv 1707.06347, eq. 7), summed over tokens.

    approx_kl is 0.5 * (log ratio)^2, as in lm-human-preferences; clipped counts the tokens whose
    clipped term is the larger.
    """
    log_ratio = torch.where(mask, log_probs - old_log_probs, 0.0)
    ratio = log_ratio.exp()
    plain = -advantages * ratio
    bounded = -advantages * ratio.clamp(1 - clip, 1 + clip)
    losses = torch.where(mask, torch.maximum(plain, bounded), 0.0)
    return Loss(
        losses.sum(),
        ((bounded > plain) & mask).sum(),
        torch.where(mask, ratio, 0.0).sum().detach(),
        0.5 * log_ratio.detach().square().sum(),
        losses,
    )


def value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip: float | None
) -> tuple[Tensor, Tensor]:
    """0.5 * max of clipped and unclipped squared error, and how many tokens were clipped; sums."""
    plain = (values - returns).square()
    if clip is None:
        return 0.5 * torch.where(mask, plain, 0.0).sum(), mask.sum() * 0
    moved = values - old_values
    bounded = (old_values + moved.clamp(-clip, clip) - returns).square()
    losses = torch.where(mask, torch.maximum(plain, bounded), 0.0)
    # Within the range the two differ by rounding, which is no clipping.
    return 0.5 * losses.sum(), ((bounded > plain) & (moved.abs() > clip) & mask).sum()


def policy_gradient_loss(log_probs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """-advantage * log-probability, summed over tokens: its gradient is Williams' (1992) estimate."""
    return torch.where(mask, -advantages * log_probs, 0.0).sum()


def leave_one_out(rewards: Tensor, scored: Tensor | None = None, reduce: Reduce = identity) -> Tensor:
    """Each reward less the mean of its group's others [..., group] (arXiv 2402.14740, eq. 7).

    0 for one that nothing compares with, and where it is not `scored`. With `reduce` a group is that of all processes.
    """
    scored = torch.ones_like(rewards, dtype=torch.bool) if scored is None else scored
    known, count = torch.where(scored, rewards, 0.0), reduce(scored.sum(-1, keepdim=True))
    others = (reduce(known.sum(-1, keepdim=True)) - known) / (count - 1).clamp(min=1)
    return torch.where(scored & (count > 1), known - others, 0.0)


def less_others_of_type(scores: Tensor, types: Tensor, reduce: Reduce = identity) -> Tensor:
    """Scores [batch], each less the mean of the others of its type; `types` [types, batch] says which is of which.

    0 for the only one of its type, and where a row is of none. What is taken off depends on the prompt alone, and on
    responses to other prompts: a baseline that leaves the expected gradient as it is (Williams 1992, REINFORCE).
    """
    return leave_one_out(scores.expand(types.shape), types, reduce).sum(0)


def standardised(rewards: Tensor, scored: Tensor) -> Tensor:
    """Each reward less its group's mean, by the group's deviation [..., group] (arXiv 2402.03300, section 4.1.2).

    The deviation is the sample's, with 1e-4 added as in TRL. 0 for one that nothing compares with, and
    where it is not `scored`.
    """
    known, count = torch.where(scored, rewards, 0.0), scored.sum(-1, keepdim=True)
    centred = torch.where(scored, known - known.sum(-1, keepdim=True) / count.clamp(min=1), 0.0)
    deviation = (centred.square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    return torch.where(count > 1, centred / (deviation + 1e-4), 0.0)


def adapted_kl_coef(kl_coef: float, kl: float, target: float, horizon: float, responses: int) -> float:
    """The next coefficient of the adaptive controller (arXiv 1909.08593, section 2.2).

    kl: nats a response, of the batch just seen; horizon: responses.
    """
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return kl_coef * (1.0 + error * responses / horizon)


def learning_rate_factor(update: int, updates: int, warmup: int, anneal: bool) -> float:
    """What the learning rate of update 1..updates is multiplied by: linear warm-up, linear decay to 0."""
    factor = min(1.0, update / warmup) if warmup else 1.0
    return factor * (1.0 - (update - 1) / updates) if anneal else factor
