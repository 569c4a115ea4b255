"""TRPO's step: its direction solves the Fisher matrix, its length keeps to the trust region, and no step is a value."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from ppo_world import (
    PAD,
    TextReward,
    distinct_words,
    eager_to_end,
    make_critic,
    make_policy,
    make_prompts,
    make_tokenizer,
    rows_of,
    small_config,
)

from evals.values.errors import InputError
from trainers.devices.processes import Processes
from trainers.rl.config import TRPOConfig
from trainers.rl.experience import Experience
from trainers.rl.learner import Learner
from trainers.rl.loop import Models, train
from trainers.rl.rollout import prompt_set, sample
from trainers.rl.token_batch import TokenBatch, micro_batches
from trainers.rl.trpo import TRPO, TrustRegion, conjugate_gradient, flat


def made_up_round(policy: torch.nn.Module, size: int = 4) -> tuple[list[TokenBatch], Experience]:
    """Eight samples of `policy` in micro-batches of `size`, with advantages out of the air."""
    settings = small_config()
    data = prompt_set(make_prompts(8), make_tokenizer(), [policy], settings)
    generator = torch.Generator().manual_seed(3)
    samples = sample(
        policy, make_tokenizer(), data, range(8), settings, torch.rand(8, 8, generator=generator)
    )
    advantages = torch.randn(samples.log_probs.shape, generator=generator)
    zeros, old = torch.zeros_like(advantages), samples.log_probs
    experience = Experience(list(range(8)), samples.mask, old, old, zeros, zeros, zeros, advantages)
    batches = micro_batches(samples.prompt_ids, samples.tokens, samples.lengths, range(8), size, PAD)
    return batches, experience


def trust_region(policy: torch.nn.Module, trpo: TRPOConfig) -> TrustRegion:
    objective = Learner.start(policy, make_critic(), small_config(), Processes(), TRPO(trpo)).policy_objective
    assert isinstance(objective, TrustRegion)
    return objective


def test_conjugate_gradient_solves() -> None:
    """As many steps as dimensions solve a linear system; a sign or a stale residual does not."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    matrix, b = root @ root.T + torch.eye(6), torch.randn(6, generator=generator, dtype=torch.float64)
    assert torch.allclose(conjugate_gradient(lambda v: matrix @ v, b, 6), torch.linalg.solve(matrix, b))


def test_a_product_is_that_of_the_fisher_matrix() -> None:
    """The fused norm's gradient has no derivative of its own: its second one came out wrong, silently."""
    policy = make_policy(0, num_hidden_layers=1, spread=0.2)
    for name, parameter in policy.named_parameters():
        parameter.requires_grad_(name.endswith(("norm.weight", "layernorm.weight", "k_proj.weight")))
    objective = trust_region(policy, TRPOConfig(damping=0.5))
    batches = made_up_round(policy, size=1)[0][:2]
    tokens = sum(len(batch.targets) for batch in batches)
    count = sum(p.numel() for p in objective.parameters)
    fisher = torch.zeros(count, count)
    for batch in batches:
        log_p = objective._log_distributions(batch)
        for token in range(len(log_p)):
            for word in range(log_p.shape[1]):
                gradient = flat(
                    torch.autograd.grad(log_p[token, word], objective.parameters, retain_graph=True),
                    objective.parameters,
                )
                fisher += log_p[token, word].exp().item() * torch.outer(gradient, gradient) / tokens
    vector = torch.randn(count, generator=torch.Generator().manual_seed(1))
    before = policy.config._attn_implementation
    product = objective._fisher_product(batches, tokens, vector)
    assert torch.allclose(product, fisher @ vector + 0.5 * vector, atol=1e-5)
    assert policy.config._attn_implementation == before != "eager"


@pytest.mark.parametrize("max_kl", [1e-3, 0.03])
def test_a_step_is_an_improvement_within_the_trust_region(max_kl: float) -> None:
    """A step of the wrong length, or one that was kept after the search had refused it."""
    policy = eager_to_end()
    batches, experience = made_up_round(policy)
    objective = trust_region(policy, TRPOConfig(max_kl=max_kl, damping=1e-3))
    with torch.no_grad():
        old = [objective._log_distributions(batch) for batch in batches]
    told = objective.improve([[batches]], experience, small_config(), Processes()).means(Processes())
    with torch.no_grad():
        new = [objective._log_distributions(batch) for batch in batches]
    kl = torch.cat([(a.exp() * (a - b)).sum(-1) for a, b in zip(old, new, strict=True)]).mean()
    assert told["policy/loss"] < 0 and told["policy/step_share"] in [0.5**k for k in range(10)]
    assert 0.1 * max_kl < kl < 1.5 * max_kl  # the exact one; the search keeps to its estimate
    assert told["policy/approx_kl"] <= max_kl


def test_without_a_way_up_the_policy_stays(tmp_path: Path) -> None:
    """Equal rewards gave a direction of NaN, and a policy of NaN."""
    policy = eager_to_end()
    start, critic = copy.deepcopy(policy.state_dict()), make_critic()
    models = Models(policy, critic, copy.deepcopy(policy), make_tokenizer())
    batches, experience = made_up_round(policy)
    nothing = Experience(**(vars(experience) | {"advantages": experience.advantages * 0}))
    objective = trust_region(policy, TRPOConfig())
    told = objective.improve([[batches]], nothing, small_config(), Processes()).means(Processes())
    assert (told["policy/step_share"], told["policy/approx_kl"], told["policy/gradient_norm"]) == (0, 0, 0)
    assert all(torch.equal(start[n], p) for n, p in policy.state_dict().items())
    # A region that no step can keep to is the same.
    region = TRPO(TRPOConfig(max_kl=1e-30, conjugate_steps=1, backtracks=2))
    settings = small_config(updates=1)
    train(region, models, make_prompts(8), TextReward(distinct_words), settings, tmp_path)
    assert rows_of(tmp_path)[0]["policy/step_share"] == 0.0
    assert all(torch.equal(start[n], p) for n, p in policy.state_dict().items())


def test_weights_of_another_precision_are_refused() -> None:
    """A step of 1e-4 on bfloat16 weights is rounded away, and the search saw no improvement."""
    with pytest.raises(InputError, match=r"field 'model.precision': trpo trains float32 weights alone"):
        trust_region(make_policy().to(torch.bfloat16), TRPOConfig())
