"""The key/value cache of the token loop: allocated once, its rows leave and join in place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer


def new_cache(model: PreTrainedModel, batch: int, capacity: int) -> Cache:
    """A preallocated cache where all layers are attention layers, transformers' own elsewhere."""
    if has_rows_apart(model):
        return Cache(layer_class_to_replicate=lambda: PreallocatedLayer(batch, capacity))  # type: ignore[arg-type]
    return DynamicCache(config=model.config)


def has_rows_apart(model: PreTrainedModel) -> bool:
    """Whether all that the model keeps is keys and values, so that rows may join those that are under way."""
    layers = DynamicCache(config=model.config).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


class PreallocatedLayer(DynamicLayer):
    """Keys and values in tensors [batch, heads, capacity, size] allocated once.

    transformers' DynamicLayer copies the whole cache at every step; this one writes the new
    positions and hands out views of what is filled.
    """

    def __init__(self, batch: int, capacity: int) -> None:
        super().__init__()
        self.batch, self.capacity, self.length = batch, capacity, 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = (
            states.new_empty(self.batch, states.shape[1], self.capacity, states.shape[3])
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self.length = self.length, self.length + key_states.shape[2]
        assert self.keys is not None and self.values is not None  # since lazy_initialization
        keys, values = self.keys[: self.batch], self.values[: self.batch]
        keys[:, :, start : self.length] = key_states
        values[:, :, start : self.length] = value_states
        return keys[:, :, : self.length], values[:, :, : self.length]

    def for_rows(self, starts: Sequence[int], capacity: int) -> PreallocatedLayer:
        """A layer of many rows with this one's keys and values, of one row, in as many columns: from `starts` on."""
        assert self.keys is not None and self.values is not None
        rows = PreallocatedLayer(len(starts), capacity)
        rows.lazy_initialization(self.keys, self.values)
        rows.length = self.length
        for states, one in ((rows.keys, self.keys), (rows.values, self.values)):
            assert states is not None  # since lazy_initialization
            for row, start in enumerate(min(start, self.length) for start in starts):
                states[row, :, :start] = 0.0  # never read, and never NaN, which no mask hides
                states[row, :, start : self.length] = one[0, :, : self.length - start]
        return rows

    def admit(self, other: PreallocatedLayer) -> None:
        """The rows of `other`, which is shorter, join at the end of the batch, their last positions in one column."""
        assert self.keys is not None and self.values is not None
        start, batch = self.length - other.length, self.batch + other.batch
        for states, new in ((self.keys, other.keys), (self.values, other.values)):
            assert new is not None
            states[self.batch : batch, :, :start] = 0.0  # never read, and never NaN, which no mask hides
            states[self.batch : batch, :, start : self.length] = new[: other.batch, :, : other.length]
        self.batch = batch

    def forget(self, columns: int) -> None:
        """Drop the first positions of all rows."""
        assert self.keys is not None and self.values is not None
        for states in (self.keys, self.values):
            kept = states[: self.batch, :, columns : self.length].clone()
            states[: self.batch, :, : self.length - columns] = kept
        self.length -= columns

    def get_seq_length(self) -> int:
        return self.length

    def batch_select_indices(self, indices: Tensor) -> None:
        """Row i becomes row indices[i] >= i, in place; only rows that move are copied."""
        self.batch = len(indices)
        targets = (indices != torch.arange(self.batch, device=indices.device)).nonzero()[:, 0]
        if len(targets):
            sources = indices[targets]
            assert self.keys is not None and self.values is not None
            for states in (self.keys, self.values):
                states[targets, :, : self.length] = states[sources, :, : self.length]
