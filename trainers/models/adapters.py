"""LoRA adapters for models too large to train whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from evals.values.errors import InputError
from trainers.devices.sharding import is_sharded, whole_tensors


def adapter(
    rank: int, task: str = "CAUSAL_LM", layers: int = 0, model: nn.Module | None = None
) -> LoraConfig | None:
    """None for rank 0: every weight is trained. With `layers`, of the last ones of `model` alone.

    The backward pass ends below the first layer that has adapters, and keeps nothing of those before it.
    """
    if rank == 0:
        return None
    targets: str | list[str] = "all-linear"
    if layers and model is not None:
        targets = linear_names(model, layers)
    return LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=targets, task_type=task)


def linear_names(model: nn.Module, last: int) -> list[str]:
    """Names of the linear layers in the `last` blocks. Raises InputError where there are fewer, or none is found."""
    found = [(name, list(m)) for name, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m)]
    name, blocks = max(found, key=lambda pair: len(pair[1]), default=("", []))
    if last > len(blocks):
        problem = f"is {last}, and the model has {len(blocks)} layers"
        raise InputError(problem, field="model.lora_layers", fix="give fewer, or 0 for all")
    first = len(blocks) - last
    return [
        f"{name}.{first + i}.{inner}"
        for i, block in enumerate(blocks[first:])
        for inner, module in block.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    ]


def merged(model: Any) -> PreTrainedModel:
    """The plain model, with its adapter folded in, so that every later stage loads it alike."""
    return model.merge_and_unload() if isinstance(model, PeftModel) else model


# --- adapters inside a plain model -------------------------------------------------------------


def add_adapter(model: PreTrainedModel, rank: int, seed: int = 0, layers: int = 0) -> PreTrainedModel:
    """Put LoRA into every linear layer but the head, in place, and freeze the rest; a score head stays trained.

    With `layers`, into those of the last ones alone. The model keeps its class, so that whatever takes a plain
    model takes this one. It computes what it did before until the adapter is trained; `seed` draws the
    adapter's other half.
    """
    config = adapter(rank, layers=layers, model=model)
    if config is None:
        return model
    head = getattr(model, "score", None)
    config.exclude_modules = None if head is None else ["score"]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)
    if head is not None:
        head.requires_grad_(True)
    return model


def has_adapter(model: nn.Module) -> bool:
    return any(isinstance(module, BaseTunerLayer) for module in model.modules())


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """Inside, the model computes what its base does."""
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


@torch.no_grad()
def plain_weights(model: nn.Module, keep: bool = True) -> dict[str, Tensor]:
    """The weights of the same model without adapters: each layer's own, with its adapter's added.

    Whole ones of a model that is split over processes; every process has to ask, with `keep` or without.
    """
    # Tied weights once: put together they would share nothing any more.
    stored = _parameters_and_buffers(model) if is_sharded(model) else model.state_dict()
    weights = {
        name.replace(".base_layer.", "."): value for name, value in stored.items() if ".lora_" not in name
    }
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            layer: Any = module
            weight, delta = layer.get_base_layer().weight, layer.get_delta_weight(layer.active_adapters[0])
            weights[f"{name}.weight"] = (weight.float() + delta.float()).to(weight.dtype)
    return whole_tensors(weights, keep)


def _parameters_and_buffers(model: nn.Module) -> dict[str, Tensor]:
    """What a state dict has, tied weights under one name."""
    names = model.state_dict().keys()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in names}
    return {name: parameter.detach() for name, parameter in model.named_parameters()} | buffers


def save_plain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    path: Path,
    weights: dict[str, Tensor] | None = None,
) -> None:
    """As `evals.models.load.save_model`; adapters are folded into what is written, not into the model.

    `weights`: those of `plain_weights`, where they are at hand.
    """
    if weights is None and has_adapter(model):
        weights = plain_weights(model)
    model.save_pretrained(str(path), safe_serialization=True, state_dict=weights)
    tokenizer.save_pretrained(str(path))
