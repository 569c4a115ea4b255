"""What PPO trains: policy and critic with their optimisers, and all that a resumed run must find again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from evals.values.errors import InputError
from trainers.devices.processes import Processes
from trainers.rl import formulas
from trainers.rl.config import PPOConfig
from trainers.rl.metrics import Averages
from trainers.rl.rollout import Experience
from trainers.rl.token_batch import CriticPass, LanguageModelPass, TokenBatch, log_probs_and_values


class Objective(Protocol):
    """A loss over response tokens, and the optimiser of the models that it trains."""

    optimizer: torch.optim.Optimizer

    def loss(self, batch: TokenBatch, experience: Experience, averages: Averages) -> Tensor:
        """The loss summed over the batch's tokens; its diagnostics go to `averages`."""
        ...


class PolicyObjective:
    """The clipped surrogate loss of the policy."""

    def __init__(self, model: PreTrainedModel, config: PPOConfig, optimizer: torch.optim.Optimizer) -> None:
        self.language_model = LanguageModelPass(model, config.temperature, config.gradient_checkpointing)
        self.optimizer = optimizer
        self._clip = config.clip

    def loss(
        self,
        batch: TokenBatch,
        experience: Experience,
        averages: Averages,
        log_probs: Tensor | None = None,
    ) -> Tensor:
        """`log_probs` [batch, time] where a pass has found them already."""
        log_probs = self.language_model.log_probs(batch) if log_probs is None else log_probs
        loss = formulas.policy_loss(
            log_probs,
            batch.take(experience.log_probs),
            batch.take(experience.advantages),
            batch.mask,
            self._clip,
        )
        tokens = len(batch.targets)
        averages.add("policy/approx_kl", loss.approx_kl, tokens)
        averages.add("policy/clip_fraction", loss.clipped, tokens)
        averages.add("policy/ratio", loss.ratio, tokens)
        averages.add("policy/loss", loss.total.detach(), tokens)
        return loss.total


class ValueObjective:
    """The clipped squared error of the critic; `value/loss` is reported without `value_coef`."""

    def __init__(self, model: PreTrainedModel, config: PPOConfig, optimizer: torch.optim.Optimizer) -> None:
        self.critic = CriticPass(model, config.gradient_checkpointing)
        self.optimizer = optimizer
        self._clip, self._coef = config.value_clip, config.value_coef

    def loss(
        self, batch: TokenBatch, experience: Experience, averages: Averages, values: Tensor | None = None
    ) -> Tensor:
        """`values` [batch, time] where a pass has found them already."""
        values = self.critic.values(batch) if values is None else values
        loss, clipped = formulas.value_loss(
            values,
            batch.take(experience.values),
            batch.take(experience.returns),
            batch.mask,
            self._clip,
        )
        averages.add("value/loss", loss.detach(), len(batch.targets))
        averages.add("value/clip_fraction", clipped, len(batch.targets))
        return self._coef * loss


class SharedObjective:
    """Both losses on one trunk: one forward and one backward pass, one optimiser, one gradient norm."""

    def __init__(self, policy: PolicyObjective, value: ValueObjective) -> None:
        assert policy.optimizer is value.optimizer
        self.policy, self.value, self.optimizer = policy, value, policy.optimizer

    def loss(self, batch: TokenBatch, experience: Experience, averages: Averages) -> Tensor:
        log_probs, values = log_probs_and_values(self.policy.language_model, self.value.critic, batch)
        policy_loss = self.policy.loss(batch, experience, averages, log_probs)
        return policy_loss + self.value.loss(batch, experience, averages, values)


@dataclass
class Learner:
    """The state of a run after `update` updates. Learning rates follow from `update` alone.

    `rollbacks` is how often the run went back from a limit; `events` tells of each, and of an end.
    """

    policy: PreTrainedModel
    critic: PreTrainedModel
    policy_objective: PolicyObjective
    value_objective: ValueObjective
    generator: torch.Generator
    kl_coef: float
    update: int = 0
    rollbacks: int = 0
    events: list[str] = field(default_factory=list)

    @classmethod
    def start(
        cls, policy: PreTrainedModel, critic: PreTrainedModel, config: PPOConfig, processes: Processes
    ) -> Learner:
        if config.shared_trunk:
            share_trunk(policy, critic)
        for model in (policy, critic):
            model.eval()  # Dropout off: the ratio of the first pass must be 1.
        groups = _parameter_groups(policy, critic, config)
        limits = config.adam_eps, config.max_grad_norm
        if config.shared_trunk:
            of_policy = of_critic = processes.adam(groups, *limits)
        else:
            of_policy, of_critic = (processes.adam([group], *limits) for group in groups)
        return cls(
            policy,
            critic,
            PolicyObjective(policy, config, of_policy),
            ValueObjective(critic, config, of_critic),
            torch.Generator().manual_seed(config.seed),
            config.kl_coef,
        )

    @property
    def objectives(self) -> tuple[Objective, ...]:
        if self.policy_objective.optimizer is self.value_objective.optimizer:
            return (SharedObjective(self.policy_objective, self.value_objective),)
        return self.policy_objective, self.value_objective

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """By the name that each has in a saved state."""
        first, second = self.policy_objective.optimizer, self.value_objective.optimizer
        return {"policy_optimizer": first} | ({} if first is second else {"critic_optimizer": second})

    def set_learning_rates(self, factor: float) -> None:
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor


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


def _parameter_groups(
    policy: PreTrainedModel, critic: PreTrainedModel, config: PPOConfig
) -> list[dict[str, Any]]:
    """The policy's and the critic's, which of a trunk that both share has the score head alone."""
    of_policy = list(policy.parameters())
    known = {id(p) for p in of_policy}
    of_critic = [p for p in critic.parameters() if id(p) not in known]
    return [
        {"params": of_policy, "base_lr": config.learning_rate},
        {"params": of_critic, "base_lr": config.critic_learning_rate},
    ]


def improve(
    objective: Objective,
    minibatches: Sequence[Sequence[Sequence[TokenBatch]]],
    experience: Experience,
    config: PPOConfig,
    processes: Processes,
) -> Averages:
    """Optimiser steps over `minibatches` [epoch][minibatch][micro-batch]; returns the diagnostics.

    The loss of a minibatch is a mean over its response tokens in all processes, so that neither
    micro-batches nor the number of processes change the gradient.
    """
    averages = Averages()
    for epoch in minibatches:
        passed = Averages()
        for batches in epoch:
            tokens = int(processes.sum(torch.tensor(sum(len(batch.targets) for batch in batches))))
            if not tokens:  # All its responses were unscored.
                continue
            for batch in batches:
                loss = objective.loss(batch, experience, passed)
                processes.backward(objective.optimizer, loss, tokens)
            processes.step(objective.optimizer, config.max_grad_norm)
        averages.merge(passed)
        approx_kl = passed.means(processes).get("policy/approx_kl") if config.stop_kl is not None else None
        if config.stop_kl is not None and approx_kl is not None and approx_kl > config.stop_kl:
            break
    return averages


def minibatch_rows(config: PPOConfig, generator: torch.Generator) -> Iterator[list[list[int]]]:
    """For each epoch, a random split of rows 0..batch_size-1 into `config.minibatches` equal parts."""
    size = config.batch_size // config.minibatches
    for _ in range(config.epochs):
        order = torch.randperm(config.batch_size, generator=generator).tolist()
        yield [order[start : start + size] for start in range(0, config.batch_size, size)]
