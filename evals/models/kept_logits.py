"""Logits at a few columns alone: the vocabulary's matrix is the widest of a model."""

from __future__ import annotations

import inspect

import torch
from transformers import PreTrainedModel


def keep_last(model: PreTrainedModel, columns: int = 1) -> dict[str, torch.Tensor]:
    """The argument for logits at the last `columns`, where the model knows it."""
    return {"logits_to_keep": last(columns, model.device)} if "logits_to_keep" in arguments(model) else {}


def last(columns: int, device: torch.device) -> torch.Tensor:
    """The last `columns` as an index, which copies them together.

    By a number transformers takes a slice, whose rows lie apart in memory: on a processor the product of the
    vocabulary's matrix with it takes five times as long in float32, and more than a hundred times in bfloat16.
    """
    return torch.arange(-columns, 0, device=device)


def arguments(model: PreTrainedModel) -> frozenset[str]:
    """Names of what the model's forward pass takes."""
    return frozenset(inspect.signature(model.forward).parameters)
