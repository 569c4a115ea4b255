"""REINFORCE leave-one-out (Ahmadian et al. 2024, arXiv 2402.14740), with `group_size` responses a prompt.

A response's reward R is its score less kl_coef times its KL (k1) to the reference, its baseline the mean R of
the prompt's other responses. The ratio is of whole responses, exp(log p(response) - log p_old(response)), and
clipped as PPO's, so that a round may have several epochs, as in TRL 1.12; the loss is a mean over responses.
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


class ResponseClipped(PolicyObjective):
    """The clipped surrogate of whole responses; a mean over them."""

    def weight(self, batch: TokenBatch) -> int:
        return len(batch.rows)

    def surrogate(
        self, log_probs: Tensor, batch: TokenBatch, experience: Experience, averages: Averages
    ) -> Tensor:
        old, mask = batch.take(experience.log_probs), batch.mask
        advantages = experience.advantages[batch.rows, :1]  # alike on every token
        loss = formulas.policy_loss(
            torch.where(mask, log_probs, 0.0).sum(1, keepdim=True),
            torch.where(mask, old, 0.0).sum(1, keepdim=True),
            advantages,
            torch.ones_like(advantages, dtype=torch.bool),
            self._config.clip,
        )
        responses, squared = len(batch.rows), torch.where(mask, log_probs.detach() - old, 0.0).square()
        averages.add("policy/approx_kl", 0.5 * squared.sum(), len(batch.targets))
        averages.add("policy/clip_fraction", loss.clipped, responses)
        averages.add("policy/ratio", loss.ratio, responses)
        averages.add("policy/loss", loss.total.detach(), responses)
        return loss.total


@dataclass(frozen=True)
class RLOO(Grouped):
    algorithm: ClassVar[Algorithm] = Algorithm.RLOO
    objective: ClassVar[type[PolicyObjective]] = ResponseClipped

    def estimate(
        self, rewards: Tensor, values: Tensor, mask: Tensor, config: PPOConfig, reduce: formulas.Reduce
    ) -> tuple[Tensor, Tensor]:
        advantages = formulas.leave_one_out(self.in_groups(rewards.sum(1)), self.in_groups(mask.any(1)))
        return advantages.view(-1, 1) * mask, rewards


RECIPE = RLOO
