"""bfloat16 weights move as float32 ones do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ppo_world import (
    eager_to_end,
    make_critic,
    small_config,
    train_small,
)

from trainers.devices.optimizer import MasterAdam, adam, optimizer_tensors, set_optimizer_tensors

RATE = 1e-6


def trained(out: Path, dtype: torch.dtype, **changes: Any) -> torch.Tensor:
    """How far each trained float32 value of the policy moved, flattened, at a learning rate of 1e-6."""
    policy = eager_to_end().to(torch.bfloat16).to(dtype)  # The same values to begin with.
    captured: list[torch.optim.Optimizer] = []
    original = torch.optim.Adam.__init__

    def capture(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        captured.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "__init__", capture)
        before = [p.detach().float().clone() for p in policy.parameters()]
        settings = {"updates": 6, "batch_size": 32, "micro_batch_size": 8, "anneal": False, "save_every": 100}
        config = small_config(**(settings | {"learning_rate": RATE} | changes))
        train_small(out, config, policy=policy, critic=make_critic().to(dtype))
    after = captured[0].param_groups[0]["params"]
    return torch.cat([(a.detach().float() - b).flatten() for a, b in zip(after, before, strict=True)])


def test_bf16_moves_as_float32_does(tmp_path: Path) -> None:
    """At a learning rate of 1e-6 nearly every step was rounded away, and the policy stood still."""
    exact = trained(tmp_path / "float32", torch.float32)
    short = trained(tmp_path / "bfloat16", torch.bfloat16)
    moved = exact.abs() > RATE
    assert moved.float().mean() > 0.3
    assert short.norm() == pytest.approx(float(exact.norm()), rel=0.25)
    assert torch.cosine_similarity(exact, short, dim=0) > 0.7


def test_pure_bf16_adam_stands_still() -> None:
    """Why there are masters: what Adam on the bfloat16 weights themselves does, and what is done instead."""
    weight = torch.full((1000,), 0.02, dtype=torch.bfloat16).requires_grad_()
    pure = torch.optim.Adam([weight], lr=RATE)
    mastered = weight.detach().clone().requires_grad_()
    ours = adam([{"params": [mastered], "base_lr": RATE}], eps=1e-8)
    ours.param_groups[0]["lr"] = RATE
    for _ in range(200):
        for parameter, optimizer in ((weight, pure), (mastered, ours)):
            parameter.float().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert torch.equal(weight, torch.full_like(weight, 0.02))
    assert isinstance(ours, MasterAdam)
    assert torch.allclose(ours.masters[0], torch.tensor(0.02).bfloat16().float() - 200 * RATE, atol=1e-6)
    assert mastered.unique().item() == ours.masters[0].bfloat16().unique().item() != weight.unique().item()


def test_micro_batches_are_summed_in_float32() -> None:
    """256 gradients of 1 and one of 256, summed in bfloat16, were 256 again after the first hundred."""
    weight = torch.zeros(1, dtype=torch.bfloat16).requires_grad_()
    optimizer = adam([{"params": [weight], "base_lr": 1.0}], eps=1e-8)
    for size in (256.0, *[1.0] * 256):
        (weight.float() * size).sum().backward()
    assert weight.grad is None
    assert optimizer.param_groups[0]["params"][0].grad.item() == 512.0


def test_masters_are_saved_and_restored() -> None:
    """A resumed run began again from the rounded weights."""
    weights = [torch.randn(5, dtype=torch.bfloat16).requires_grad_() for _ in range(2)]
    optimizers = [adam([{"params": [w], "base_lr": 1e-3}], eps=1e-8) for w in weights]
    first, second = optimizers
    first.param_groups[0]["lr"] = 1e-3
    weights[0].float().square().sum().backward()
    first.step()
    set_optimizer_tensors(second, {k: v.clone() for k, v in optimizer_tensors(first).items()})
    assert optimizer_tensors(first).keys() == {"0.master", "0.step", "0.exp_avg", "0.exp_avg_sq"}
    for name, value in optimizer_tensors(first).items():
        assert torch.equal(optimizer_tensors(second)[name], value), name


def test_float32_weights_have_no_copies() -> None:
    """The usual run paid for masters that it does not need."""
    weight = torch.zeros(3).requires_grad_()
    assert type(adam([{"params": [weight], "base_lr": 1.0}], eps=1e-8)) is torch.optim.Adam
