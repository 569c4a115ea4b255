"""Models that wait for their turn, on the device or in main memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from trainers.reward.reward import Reward, terms_of


@contextmanager
def on_device(models: Sequence[nn.Module], device: torch.device, offload: bool) -> Iterator[None]:
    """Inside, `models` are on `device`; outside, with `offload`, in main memory."""
    if offload:
        for model in models:
            model.to(device)
    try:
        yield
    finally:
        if offload:
            for model in models:
                model.to("cpu")
            if device.type == "cuda":
                torch.cuda.empty_cache()


def models_of(reward: Reward) -> list[nn.Module]:
    """The models that a reward's terms and their graders hold as `model`; a reward may hold none."""
    holders = [holder for term in terms_of(reward) for holder in (term, getattr(term, "grader", None))]
    found = [model for holder in holders if isinstance(model := getattr(holder, "model", None), nn.Module)]
    return list({id(model): model for model in found}.values())
