"""LoRA adapters for models too large to train whole."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from evals.models.folder import BESIDE
from evals.models.load import save_model
from evals.values.errors import InputError
from trainers.devices.sharding import is_sharded, whole_tensors

PREFIX = "base_model.model."  # of the names in peft's files


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


def save_merged(model: Any, tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """As `evals.models.load.save_model`; where peft trained an adapter, this is folded in and stands beside."""
    found = adapter_weights(model.get_base_model()) if isinstance(model, PeftModel) else {}
    if found:
        save_adapter(model.get_base_model(), path, found)
    save_model(merged(model), tokenizer, path)


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
    weights = {
        name.replace(".base_layer.", "."): value
        for name, value in _stored(model).items()
        if ".lora_" not in name
    }
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            layer: Any = module
            weight, delta = layer.get_base_layer().weight, layer.get_delta_weight(layer.active_adapters[0])
            weights[f"{name}.weight"] = (weight.float() + delta.float()).to(weight.dtype)
    return whole_tensors(weights, keep)


@torch.no_grad()
def adapter_weights(model: nn.Module, keep: bool = True) -> dict[str, Tensor]:
    """The adapter alone, by the names of peft's files; {} where there is none. Asked as `plain_weights`."""
    lora = {name: value for name, value in _stored(model).items() if ".lora_" in name}
    return whole_tensors({f"{PREFIX}{_without_its_name(name)}": value for name, value in lora.items()}, keep)


def _without_its_name(name: str) -> str:
    """`q_proj.lora_A.default.weight` is `q_proj.lora_A.weight` in a file."""
    return re.sub(r"(\.lora_\w+)\.[^.]+(?=\.|$)", r"\1", name, count=1)


def _stored(model: nn.Module) -> dict[str, Tensor]:
    # Tied weights once: put together they would share nothing any more.
    return _parameters_and_buffers(model) if is_sharded(model) else model.state_dict()


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
    lora: dict[str, Tensor] | None = None,
) -> None:
    """As `evals.models.load.save_model`; adapters are folded into what is written, not into the model, and beside it.

    `weights` and `lora`: those of `plain_weights` and `adapter_weights`, where they are at hand.
    """
    if weights is None and has_adapter(model):
        weights, lora = plain_weights(model), adapter_weights(model)
    if lora and hasattr(model, "peft_config"):  # not of a critic on the policy's trunk: it is the policy's
        save_adapter(model, path, lora)
    model.save_pretrained(str(path), safe_serialization=True, state_dict=weights)
    tokenizer.save_pretrained(str(path))


def save_adapter(model: PreTrainedModel, path: Path, weights: dict[str, Tensor]) -> None:
    """The adapter in peft's format as `path/adapter`, for the model that its training began from."""
    folder, config = path / BESIDE, copy.copy(model.peft_config["default"])
    assert isinstance(config, LoraConfig)
    folder.mkdir(parents=True)
    if not isinstance(config.target_modules, str):
        config.target_modules = sorted(config.target_modules)  # of a set: the same bytes each time
    config.task_type, config.inference_mode, config.base_model_name_or_path = "CAUSAL_LM", True, None
    config.save_pretrained(str(folder))
    save_file(
        {name: value.contiguous() for name, value in weights.items()}, folder / "adapter_model.safetensors"
    )
