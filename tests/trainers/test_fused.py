"""Gradients written by hand, against finite differences and transformers' formulas."""

from __future__ import annotations

import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from trainers.models.fused import rms_norm, rotate


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def test_rms_norm_equals_transformers() -> None:
    """The factor 1/width or the eps stood in the wrong place."""
    x, norm = normal(2, 3, 8).float(), LlamaRMSNorm(8, eps=0.1)
    norm.weight.data = normal(8).float()
    assert torch.allclose(rms_norm(x, norm.weight, 0.1), norm(x), atol=1e-6)


def test_rms_norm_gradient() -> None:
    """The mean's share of the gradient was left out."""
    x, weight = normal(2, 3, 8).requires_grad_(), normal(8).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, 0.1), (x, weight))


def test_rotation_equals_transformers() -> None:
    """Neighbours were paired instead of halves."""
    x, angles = normal(2, 5, 3, 8).float(), normal(5, 4).float()
    cos, sin = angles.cos(), angles.sin()
    doubled = [torch.cat([table, table], -1)[None] for table in (cos, sin)]
    expected, _ = apply_rotary_pos_emb(x.transpose(1, 2), x.transpose(1, 2), *doubled)
    assert torch.allclose(rotate(x, cos[:, None], sin[:, None]), expected.transpose(1, 2), atol=1e-6)


def test_rotation_gradient() -> None:
    """The gradient turned on instead of back."""
    angles = normal(5, 1, 4)
    x = normal(2, 5, 3, 8).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: rotate(x, angles.cos(), angles.sin()), (x,))
