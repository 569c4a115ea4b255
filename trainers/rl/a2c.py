"""Advantage actor-critic, synchronous (Mnih et al. 2016, arXiv 1602.01783), with GAE.

One pass over each round: the policy descends -A(t) log p(t), the critic its squared error; no ratio, no
clipping. It is PPO with one epoch and one minibatch (Huang et al. 2022, arXiv 2205.09123). The paper's bonus
for entropy is left out, as in PPO here: the KL to the reference keeps the policy from collapsing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainers.rl.config import Algorithm
from trainers.rl.objectives import PolicyGradientObjective, PolicyObjective
from trainers.rl.recipe import Recipe


@dataclass(frozen=True)
class A2C(Recipe):
    algorithm: ClassVar[Algorithm] = Algorithm.A2C
    objective: ClassVar[type[PolicyObjective]] = PolicyGradientObjective
    epochs: ClassVar[int | None] = 1
    lacks: ClassVar[frozenset[str]] = frozenset({"ppo.minibatches", "ppo.stop_kl"})


RECIPE = A2C
