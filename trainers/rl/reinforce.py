"""REINFORCE with a baseline: the simplest policy gradient, and what the others are measured against.

The gradient of E[R] is E[(R - b) grad log p(response)] (Williams 1992); R is the score less kl_coef
times the response's KL (k1) to the reference, b the mean R of the batch's other responses. One pass over
each batch: no critic, no ratio, no clipping, no epochs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from trainers.rl import formulas
from trainers.rl.config import Algorithm, PPOConfig
from trainers.rl.objectives import PolicyGradientObjective, PolicyObjective
from trainers.rl.recipe import CRITIC_FREE_LACKS, Recipe
from trainers.rl.token_batch import TokenBatch


class ResponseGradient(PolicyGradientObjective):
    """The same over whole responses: a mean over them, not over tokens."""

    def weight(self, batch: TokenBatch) -> int:
        return len(batch.rows)


@dataclass(frozen=True)
class Reinforce(Recipe):
    algorithm: ClassVar[Algorithm] = Algorithm.REINFORCE
    objective: ClassVar[type[PolicyObjective]] = ResponseGradient
    has_critic: ClassVar[bool] = False
    epochs: ClassVar[int | None] = 1
    lacks: ClassVar[frozenset[str]] = CRITIC_FREE_LACKS

    def estimate(
        self, rewards: Tensor, values: Tensor, mask: Tensor, config: PPOConfig, reduce: formulas.Reduce
    ) -> tuple[Tensor, Tensor]:
        advantages = formulas.leave_one_out(rewards.sum(1), mask.any(1), reduce)
        return advantages[:, None] * mask, rewards


RECIPE = Reinforce
