"""Trust region policy optimisation (Schulman et al. 2015, arXiv 1502.05477), with GAE and a critic.

A round's step of the policy raises the surrogate L, the mean over tokens of ratio * advantage, within a mean KL
of `max_kl` from the policy that sampled. Its direction solves F x = g by conjugate gradient, g being L's
gradient and F the Fisher matrix of the next-token distributions, the second derivative of that KL (appendix C;
a damping times the identity is added, as in the paper's code). The longest step that the quadratic model allows
is sqrt(2 max_kl / x'Fx) x; it is halved until L has risen and the KL is within the limit, and after
`backtracks` halvings the policy stays. The critic takes PPO's steps of Adam.

Products of F are exact over the vocabulary, by two backward passes; a tried step's KL is the k3 estimate
on the round's own tokens, since the distributions of a round do not fit into memory. All in float32, over
what is trained alone: an adapter, say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from evals.values.errors import InputError
from trainers.devices.processes import Processes
from trainers.rl import formulas
from trainers.rl.config import Algorithm, PPOConfig, TRPOConfig
from trainers.rl.experience import Experience
from trainers.rl.metrics import Averages
from trainers.rl.objectives import Minibatches, PolicyObjective
from trainers.rl.recipe import Recipe
from trainers.rl.token_batch import LanguageModelPass, TokenBatch, whole_logits


class TrustRegion(PolicyObjective):
    """A natural-gradient step a round, whatever the number of epochs."""

    def __init__(self, model: PreTrainedModel, config: PPOConfig, trpo: TRPOConfig) -> None:
        self.language_model = LanguageModelPass(model, config.temperature)
        self.model, self.trpo, self._config = model, trpo, config
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        if any(p.dtype != torch.float32 for p in self.parameters):
            fix = "set model.precision=float32, or take algorithm=ppo"
            raise InputError("trpo trains float32 weights alone", field="model.precision", fix=fix)

    def improve(
        self, minibatches: Minibatches, experience: Experience, config: PPOConfig, processes: Processes
    ) -> Averages:
        batches = minibatches[0][0]
        tokens = sum(len(batch.targets) for batch in batches)
        gradient = self._gradient(batches, experience) / tokens
        direction, length = self._natural_step(batches, gradient, tokens)
        told = self._search(direction, length, batches, experience)
        averages = Averages()
        for name, value in told.items():
            averages.add(f"policy/{name}", value * tokens, tokens)
        averages.add("policy/gradient_norm", float(gradient.norm()), 1.0)
        return averages

    def _natural_step(
        self, batches: Sequence[TokenBatch], gradient: Tensor, tokens: int
    ) -> tuple[Tensor, float]:
        """The natural gradient and the factor to the border of the trust region; 0 where there is no way up."""
        if not bool(gradient.any()):
            return gradient, 0.0
        product = partial(self._fisher_product, batches, tokens)
        direction = conjugate_gradient(product, gradient, self.trpo.conjugate_steps)
        curvature = float(direction @ product(direction))
        if not curvature > 0.0:  # Rounding, or a number that is not finite: no step can be trusted.
            return gradient, 0.0
        return direction, math.sqrt(2 * self.trpo.max_kl / curvature)

    def _search(
        self, direction: Tensor, length: float, batches: Sequence[TokenBatch], experience: Experience
    ) -> dict[str, float]:
        """Take the longest of the halved steps that is an improvement within the region, or none."""
        before = torch.nn.utils.parameters_to_vector(self.parameters).detach().clone()
        for tried in range(self.trpo.backtracks if length else 0):
            share = 0.5**tried
            self._set(before + share * length * direction)
            gain, kl = self._gain_and_kl(batches, experience)
            if gain > 0.0 and kl <= self.trpo.max_kl:
                return {"loss": -gain, "approx_kl": kl, "step_share": share}
        self._set(before)
        return {"loss": 0.0, "approx_kl": 0.0, "step_share": 0.0}

    @torch.no_grad()
    def _set(self, values: Tensor) -> None:
        torch.nn.utils.vector_to_parameters(values, self.parameters)

    def _gradient(self, batches: Sequence[TokenBatch], experience: Experience) -> Tensor:
        """Of the surrogate, summed over tokens; its ratio is 1 here, so that it is the policy gradient's."""
        whole = torch.zeros(sum(p.numel() for p in self.parameters), device=self.parameters[0].device)
        for batch in batches:
            log_probs = self.language_model.log_probs(batch)
            loss = formulas.policy_gradient_loss(log_probs, batch.take(experience.advantages), batch.mask)
            whole -= flat(torch.autograd.grad(loss, self.parameters, allow_unused=True), self.parameters)
        return whole

    @torch.no_grad()
    def _gain_and_kl(self, batches: Sequence[TokenBatch], experience: Experience) -> tuple[float, float]:
        """By how much the surrogate is above the old policy's, and the KL from that; means over tokens."""
        gain, kl, tokens = 0.0, 0.0, 0
        for batch in batches:
            new, old = self.language_model.log_probs(batch), batch.take(experience.log_probs)
            advantages = batch.take(experience.advantages)
            risen = torch.where(batch.mask, (new - old).expm1() * advantages, 0.0)
            gain += float(risen.sum())
            kl += float(torch.where(batch.mask, formulas.kl_k3(old, new), 0.0).sum())
            tokens += len(batch.targets)
        return gain / tokens, kl / tokens

    def _fisher_product(self, batches: Sequence[TokenBatch], tokens: int, vector: Tensor) -> Tensor:
        """(F + damping) `vector`: the second derivative of the mean KL at its minimum, along `vector`."""
        product = self.trpo.damping * vector
        with attention_twice_differentiable(self.model):
            for batch in batches:
                log_p = self._log_distributions(batch)
                kl = (log_p.detach().exp() * (log_p.detach() - log_p)).sum() / tokens
                first = torch.autograd.grad(kl, self.parameters, create_graph=True, allow_unused=True)
                along = flat(first, self.parameters) @ vector
                product += flat(
                    torch.autograd.grad(along, self.parameters, allow_unused=True), self.parameters
                )
        return product

    def _log_distributions(self, batch: TokenBatch) -> Tensor:
        """[tokens, vocabulary], by the model's own forward: the fused one has no second derivative."""
        logits = whole_logits(self.model, batch).float()
        return (logits / self.language_model.temperature).log_softmax(-1)


def conjugate_gradient(product: Callable[[Tensor], Tensor], b: Tensor, steps: int) -> Tensor:
    """x with `product`(x) about `b`, for a product with a positive definite matrix (Hestenes and Stiefel 1952)."""
    x, residual, direction = torch.zeros_like(b), b.clone(), b.clone()
    squared, enough = residual @ residual, 1e-10 * (b @ b)
    for _ in range(steps):
        if squared <= enough:
            break
        along = product(direction)
        length = squared / (direction @ along)
        x, residual = x + length * direction, residual - length * along
        before, squared = squared, residual @ residual
        direction = residual + (squared / before) * direction
    return x


def flat(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> Tensor:
    """One vector; 0 for a parameter that the loss does not depend on."""
    parts = zip(gradients, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in parts])


@contextmanager
def attention_twice_differentiable(model: PreTrainedModel) -> Iterator[None]:
    """Inside, attention is written out: its fused kernels have a first derivative alone."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@dataclass(frozen=True)
class TRPO(Recipe):
    trpo: TRPOConfig = field(default_factory=TRPOConfig)

    algorithm: ClassVar[Algorithm] = Algorithm.TRPO
    objective: ClassVar[type[PolicyObjective]] = TrustRegion
    descends: ClassVar[bool] = False
    lacks: ClassVar[frozenset[str]] = frozenset(
        "ppo.minibatches ppo.stop_kl ppo.shared_trunk ppo.gradient_checkpointing processes".split()
    )

    def policy_objective(
        self, model: PreTrainedModel, config: PPOConfig, optimizer: torch.optim.Optimizer | None
    ) -> PolicyObjective:
        return TrustRegion(model, config, self.trpo)


RECIPE = TRPO
