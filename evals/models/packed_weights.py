"""Weights packed once for many products with few rows, as writing token by token makes them on a processor.

For one token of some 32 responses a product reads each weight once and computes little with it: on two cores the
general routine spends more on putting a large matrix in order than on the product. oneDNN packs a weight ahead, which
torch's compiler uses too; the vocabulary's head of a 135 M model then takes a third of its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

LARGE = 1 << 16  # weights of a layer: with fewer the call costs more than the product
ROWS = 32  # of the products that the packing is made for; with many more it serves as well


@contextmanager
def packed_weights(model: nn.Module, on: bool = True) -> Iterator[None]:
    """Inside, large linear layers on a processor multiply few rows by packed weights: of a float32 model, and of a
    bfloat16 one where the processor computes in it.

    These are copies of the weights as they are on entry, as large again. Results differ from the plain ones by
    rounding. Not for a differentiated pass.
    """
    layers = [module for module in model.modules() if on and isinstance(module, nn.Linear) and _packs(module)]
    try:
        for layer in layers:
            packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
            vars(layer)["forward"] = partial(_forward, layer, packed)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _packs(module: nn.Linear) -> bool:
    if type(module) is not nn.Linear or "forward" in vars(module) or not torch.backends.mkldnn.is_available():
        return False
    weight: Tensor = module.weight
    return weight.device.type == "cpu" and _computes_in(weight.dtype) and weight.numel() >= LARGE


def _computes_in(number_type: torch.dtype) -> bool:
    if number_type == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return number_type == torch.float32


def _forward(layer: nn.Linear, weight: Tensor, x: Tensor) -> Tensor:
    if torch.is_grad_enabled():
        return linear(x, layer.weight, layer.bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, layer.bias, "none", [], "")
