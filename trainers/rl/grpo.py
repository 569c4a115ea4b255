"""Group relative policy optimisation (Shao et al. 2024, arXiv 2402.03300), with `group_size` responses a prompt.

A response's advantage is its score less the mean of the prompt's responses, by their deviation. The loss is
PPO's clipped surrogate with kl_coef times the KL (k3) to the reference added to each token, a mean over a
response's tokens and then over responses (eq. 3). The KL is weighed by the ratio, so that its gradient is
unbiased (DeepSeek-AI 2025, arXiv 2512.02556), as in TRL 1.12. Since advantages have unit deviation, kl_coef
counts against deviations of the reward, not against its units; it is TRL's `beta`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trainers.rl import formulas
from trainers.rl.config import Algorithm, PPOConfig
from trainers.rl.experience import Experience
from trainers.rl.metrics import Averages
from trainers.rl.objectives import PolicyObjective
from trainers.rl.recipe import Grouped
from trainers.rl.token_batch import TokenBatch


class GroupRelative(PolicyObjective):
    """The clipped surrogate with the KL's price, a mean over each response's tokens."""

    def weight(self, batch: TokenBatch) -> int:
        return len(batch.rows)

    def surrogate(
        self, log_probs: Tensor, batch: TokenBatch, experience: Experience, averages: Averages
    ) -> Tensor:
        config, mask = self._config, batch.mask
        shares = mask / mask.sum(1, keepdim=True).clamp(min=1)
        old, advantages = batch.take(experience.log_probs), batch.take(experience.advantages)
        reference = batch.take(experience.reference_log_probs)
        loss = formulas.policy_loss(log_probs, old, advantages, mask, config.clip)
        ratio = torch.where(mask, log_probs - old, 0.0).exp()
        price = torch.where(mask, ratio * formulas.kl_k3(log_probs, reference), 0.0)
        total = (shares * (loss.by_token + config.kl_coef * price)).sum()
        tokens = len(batch.targets)
        averages.add("policy/approx_kl", loss.approx_kl, tokens)
        averages.add("policy/clip_fraction", loss.clipped, tokens)
        averages.add("policy/ratio", loss.ratio, tokens)
        averages.add("policy/loss", total.detach(), len(batch.rows))
        return total


@dataclass(frozen=True)
class GRPO(Grouped):
    algorithm: ClassVar[Algorithm] = Algorithm.GRPO
    objective: ClassVar[type[PolicyObjective]] = GroupRelative
    kl_in_reward: ClassVar[bool] = False

    def estimate(
        self, rewards: Tensor, values: Tensor, mask: Tensor, config: PPOConfig, reduce: formulas.Reduce
    ) -> tuple[Tensor, Tensor]:
        advantages = formulas.standardised(self.in_groups(rewards.sum(1)), self.in_groups(mask.any(1)))
        return advantages.view(-1, 1) * mask, rewards


RECIPE = GRPO
