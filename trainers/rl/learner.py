"""What is trained: a policy, with a critic where there is one, and all that a resumed run must find again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel

from evals.values.errors import InputError
from trainers.devices.processes import Processes
from trainers.devices.sharding import is_sharded
from trainers.reward.reward import Reward, terms_of
from trainers.reward.reward_model_term import RewardModelTerm
from trainers.rl.config import PPOConfig
from trainers.rl.objectives import PolicyObjective, SharedObjective, Stepping, ValueObjective
from trainers.rl.recipe import Recipe


@dataclass
class Learner:
    """The state of a run after `update` updates. Learning rates follow from `update` alone.

    `optimizers` have the names that each has in a saved state. `rollbacks` is how often the run went back
    from a limit; `events` tells of each, and of an end.
    """

    policy: PreTrainedModel
    critic: PreTrainedModel | None
    policy_objective: PolicyObjective
    value_objective: ValueObjective | None
    optimizers: dict[str, torch.optim.Optimizer]
    generator: torch.Generator
    kl_coef: float
    update: int = 0
    rollbacks: int = 0
    events: list[str] = field(default_factory=list)

    @classmethod
    def start(
        cls,
        policy: PreTrainedModel,
        critic: PreTrainedModel | None,
        config: PPOConfig,
        processes: Processes,
        recipe: Recipe | None = None,
    ) -> Learner:
        """By PPO's recipe where none is given."""
        recipe = recipe or Recipe()
        if critic is not None and config.shared_trunk:
            share_trunk(policy, critic)
        for model in (policy, critic):
            if model is not None:
                model.eval()  # Dropout off: the ratio of the first pass must be 1.
        optimizers = _optimizers(policy, critic, config, processes, recipe)
        of_policy = optimizers.get("policy_optimizer")
        value = None
        if critic is not None:
            of_critic = optimizers.get("critic_optimizer", of_policy)
            assert of_critic is not None
            value = ValueObjective(critic, config, of_critic)
        return cls(
            policy,
            critic,
            recipe.policy_objective(policy, config, of_policy),
            value,
            optimizers,
            torch.Generator().manual_seed(config.seed),
            config.kl_coef,
        )

    @property
    def objectives(self) -> tuple[Stepping, ...]:
        if self.value_objective is None:
            return (self.policy_objective,)
        if len(self.optimizers) == 1 and "policy_optimizer" in self.optimizers:
            return (SharedObjective(self.policy_objective, self.value_objective),)
        return self.policy_objective, self.value_objective

    @property
    def trained(self) -> dict[str, PreTrainedModel]:
        """By the name that each has in a saved state."""
        return {"policy": self.policy} | ({} if self.critic is None else {"critic": self.critic})

    def set_learning_rates(self, factor: float) -> None:
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor


def _optimizers(
    policy: PreTrainedModel,
    critic: PreTrainedModel | None,
    config: PPOConfig,
    processes: Processes,
    recipe: Recipe,
) -> dict[str, torch.optim.Optimizer]:
    """One for both where they share a trunk, else one each; none for a policy that has steps of its own."""
    of_policy: dict[str, Any] = {"params": list(policy.parameters()), "base_lr": config.learning_rate}
    limits = config.adam_eps, config.max_grad_norm
    if critic is None:
        return {"policy_optimizer": processes.adam([of_policy], *limits)}
    known = {id(p) for p in of_policy["params"]}  # a trunk that both share is the policy's
    own = [p for p in critic.parameters() if id(p) not in known]
    of_critic: dict[str, Any] = {"params": own, "base_lr": config.critic_learning_rate}
    if config.shared_trunk:
        return {"policy_optimizer": processes.adam([of_policy, of_critic], *limits)}
    groups = {"policy_optimizer": of_policy} if recipe.descends else {}
    groups["critic_optimizer"] = of_critic
    return {name: processes.adam([group], *limits) for name, group in groups.items()}


def share_trunk(policy: PreTrainedModel, critic: PreTrainedModel) -> None:
    """Put the policy's trunk in the place of the critic's, whose score head stays.

    Raises InputError for models whose trunks differ in kind or width.
    """
    mine: Any = policy.base_model
    theirs: Any = critic.base_model
    if type(mine) is not type(theirs) or mine.config.hidden_size != theirs.config.hidden_size:
        raise InputError(
            f"the policy's trunk ({type(mine).__name__}, width {mine.config.hidden_size}) is not the "
            f"critic's ({type(theirs).__name__}, width {theirs.config.hidden_size})",
            field="ppo.shared_trunk",
            fix="give a critic of the policy's architecture, or leave shared_trunk out",
        )
    setattr(critic, critic.base_model_prefix, mine)


def share_frozen_layers(policy: PreTrainedModel, reward: Reward, config: PPOConfig) -> None:
    """Let each reward model that begins with the policy's frozen layers use these: one copy, and one pass a text.

    Not where the reward's models leave the device between their turns, nor where a model is split over processes.
    """
    if config.offload or is_sharded(policy):
        return
    for term in terms_of(reward):
        if isinstance(term, RewardModelTerm):
            term.begin_as(policy, config.batch_size)
