"""What an update descends: losses over response tokens, and the steps of Adam along them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trainers.devices.processes import Processes
from trainers.rl import formulas
from trainers.rl.config import PPOConfig
from trainers.rl.experience import Experience
from trainers.rl.metrics import Averages
from trainers.rl.token_batch import CriticPass, LanguageModelPass, TokenBatch, log_probs_and_values

Minibatches = Sequence[Sequence[Sequence[TokenBatch]]]
"""[epoch][minibatch][micro-batch]"""


class Objective(Protocol):
    """What `improve` needs: a loss, what it is a mean over, and the optimiser of the models that it trains."""

    optimizer: torch.optim.Optimizer

    def loss(self, batch: TokenBatch, experience: Experience, averages: Averages) -> Tensor:
        """The loss summed over what `weight` counts; its diagnostics go to `averages`."""
        ...

    def weight(self, batch: TokenBatch) -> int:
        """How many tokens or responses of the batch the loss is a mean over."""
        ...


class Stepping(Protocol):
    """What the loop needs: whatever makes its models better by a round."""

    def improve(
        self, minibatches: Minibatches, experience: Experience, config: PPOConfig, processes: Processes
    ) -> Averages:
        """Change the models; returns diagnostics of it."""
        ...


class Descent:
    """Steps of Adam over minibatches; a mean over tokens unless a loss says otherwise."""

    optimizer: torch.optim.Optimizer

    def loss(self, batch: TokenBatch, experience: Experience, averages: Averages) -> Tensor:
        raise NotImplementedError

    def weight(self, batch: TokenBatch) -> int:
        return len(batch.targets)

    def improve(
        self, minibatches: Minibatches, experience: Experience, config: PPOConfig, processes: Processes
    ) -> Averages:
        return improve(self, minibatches, experience, config, processes)


class PolicyObjective(Descent):
    """A loss of the policy's log-probabilities, `surrogate`, which each kind of policy step has its own of."""

    def __init__(self, model: PreTrainedModel, config: PPOConfig, optimizer: torch.optim.Optimizer) -> None:
        self.language_model = LanguageModelPass(model, config.temperature, config.gradient_checkpointing)
        self.optimizer = optimizer
        self._config = config

    def loss(
        self,
        batch: TokenBatch,
        experience: Experience,
        averages: Averages,
        log_probs: Tensor | None = None,
    ) -> Tensor:
        """`log_probs` [batch, time] where a pass has found them already."""
        log_probs = self.language_model.log_probs(batch) if log_probs is None else log_probs
        return self.surrogate(log_probs, batch, experience, averages)

    def surrogate(
        self, log_probs: Tensor, batch: TokenBatch, experience: Experience, averages: Averages
    ) -> Tensor:
        raise NotImplementedError


class ClippedObjective(PolicyObjective):
    """PPO's clipped surrogate loss."""

    def surrogate(
        self, log_probs: Tensor, batch: TokenBatch, experience: Experience, averages: Averages
    ) -> Tensor:
        loss = formulas.policy_loss(
            log_probs,
            batch.take(experience.log_probs),
            batch.take(experience.advantages),
            batch.mask,
            self._config.clip,
        )
        tokens = len(batch.targets)
        averages.add("policy/approx_kl", loss.approx_kl, tokens)
        averages.add("policy/clip_fraction", loss.clipped, tokens)
        averages.add("policy/ratio", loss.ratio, tokens)
        averages.add("policy/loss", loss.total.detach(), tokens)
        return loss.total


class PolicyGradientObjective(PolicyObjective):
    """The policy gradient itself, right for the first step on a round alone; a mean over tokens."""

    def surrogate(
        self, log_probs: Tensor, batch: TokenBatch, experience: Experience, averages: Averages
    ) -> Tensor:
        loss = formulas.policy_gradient_loss(log_probs, batch.take(experience.advantages), batch.mask)
        averages.add("policy/loss", loss.detach(), self.weight(batch))
        return loss


class ValueObjective(Descent):
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


class SharedObjective(Descent):
    """Both losses on one trunk: one forward and one backward pass, one optimiser, one gradient norm."""

    def __init__(self, policy: PolicyObjective, value: ValueObjective) -> None:
        assert policy.optimizer is value.optimizer
        self.policy, self.value, self.optimizer = policy, value, policy.optimizer

    def loss(self, batch: TokenBatch, experience: Experience, averages: Averages) -> Tensor:
        log_probs, values = log_probs_and_values(self.policy.language_model, self.value.critic, batch)
        policy_loss = self.policy.loss(batch, experience, averages, log_probs)
        return policy_loss + self.value.loss(batch, experience, averages, values)


def improve(
    objective: Objective,
    minibatches: Minibatches,
    experience: Experience,
    config: PPOConfig,
    processes: Processes,
) -> Averages:
    """Optimiser steps over `minibatches`; returns the diagnostics.

    The loss of a minibatch is a mean over its tokens or responses in all processes, so that neither
    micro-batches nor the number of processes change the gradient.
    """
    averages = Averages()
    for epoch in minibatches:
        passed = Averages()
        for batches in epoch:
            weight = int(processes.sum(torch.tensor(sum(objective.weight(batch) for batch in batches))))
            if not weight:  # All its responses were unscored.
                continue
            for batch in batches:
                loss = objective.loss(batch, experience, passed)
                processes.backward(objective.optimizer, loss, weight)
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
