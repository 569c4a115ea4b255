"""Keys and values of prefixes that many rows share, in transformers' cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


class PrefixLayer(DynamicLayer):
    """Keys and values [prefixes, heads, time, size] before those of rows that are not kept.

    Rows come prefix by prefix, the same number for each. One layer's joined tensors exist at a time; a copy of
    a prefix for every row and layer never does.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.keys, self.values, self.is_initialized = layer.keys, layer.values, True
        self.dtype, self.device = layer.keys.dtype, layer.keys.device

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        assert self.keys is not None and self.values is not None
        return _joined(self.keys, key_states), _joined(self.values, value_states)


def shared_prefixes(cache: Cache, rows: int) -> Cache:
    """What `rows` rows after each prefix of `cache` see; layers that hold more than keys and values are copied."""
    return Cache(layers=[_shared(layer, rows) for layer in cache.layers])


def _shared(layer: Any, rows: int) -> Any:
    if type(layer) is DynamicLayer:
        return PrefixLayer(layer)
    layer.batch_repeat_interleave(rows)
    return layer


def _joined(prefixes: Tensor, states: Tensor) -> Tensor:
    count, heads, _, size = prefixes.shape
    by_prefix = states.view(count, -1, *states.shape[1:])
    before = prefixes[:, None].expand(-1, by_prefix.shape[1], -1, -1, -1)
    return torch.cat([before, by_prefix], dim=-2).view(len(states), heads, -1, size)
