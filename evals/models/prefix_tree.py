"""Many questions about one text in one forward pass.

A row is `prefix, q1, q2, ... qP`. Each question sees the prefix and itself only, and its positions
go on from the prefix's end, so that each answer is what a pass over `prefix, qi` alone would give.
Prefixes are padded on the left: the questions, and with them the answers, stand at the same columns
in every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

from evals.models.kept_logits import arguments, keep_last

LONG_ROW = 512  # tokens; measured by benchmarks/grading_prefix_sharing.py


class Pass(str, Enum):
    """How prefixes are shared: by a tree mask, by a key-value cache, or not at all."""

    TREE = "tree"
    CACHE = "cache"
    SEPARATE = "separate"


@dataclass(frozen=True)
class Questions:
    """Suffixes side by side: ids, offsets from the prefix's end, owners [columns]; ends [questions]."""

    ids: torch.Tensor
    offsets: torch.Tensor
    owners: torch.Tensor
    ends: torch.Tensor

    @classmethod
    def of(cls, suffixes: Sequence[Sequence[int]]) -> Questions:
        lengths = torch.tensor([len(s) for s in suffixes])
        if len(suffixes) == 0 or int(lengths.min()) == 0:
            raise ValueError("each question needs at least one token")
        return cls(
            ids=torch.tensor([i for s in suffixes for i in s]),
            offsets=torch.cat([torch.arange(n) for n in lengths.tolist()]),
            owners=torch.repeat_interleave(torch.arange(len(suffixes)), lengths),
            ends=lengths.cumsum(0) - 1,
        )


@dataclass(frozen=True)
class PrefixTree:
    """Inputs of one pass: ids, positions [rows, time], mask [rows, 1, time, time], answers [questions]."""

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    answers: torch.Tensor


def build_tree(
    prefixes: Sequence[Sequence[int]], questions: Questions, pad: int, dtype: torch.dtype = torch.float32
) -> PrefixTree:
    """Lay prefixes and questions out as a tree; the mask is additive, 0 or the dtype's lowest number."""
    ids, lengths = pad_left(prefixes, pad)
    rows, width = ids.shape
    total = width + len(questions.ids)
    starts = (width - lengths)[:, None]
    positions = torch.cat(
        [(torch.arange(width)[None] - starts).clamp(min=0), lengths[:, None] + questions.offsets[None]], dim=1
    )
    # Owner -1 is the prefix, which everybody sees; a question's columns are seen by that question alone.
    owners = torch.cat([torch.full((width,), -1), questions.owners])
    visible = torch.ones(total, total, dtype=torch.bool).tril_()
    visible &= (owners[None] == -1) | (owners[:, None] == owners[None])
    real = torch.arange(total)[None] >= starts
    hidden = ~(visible[None] & real[:, None])
    # A padded row that sees nothing would be all -inf, and its softmax NaN; the lowest finite number is safe.
    mask = torch.zeros(rows, 1, total, total, dtype=dtype)
    mask.masked_fill_(hidden[:, None], torch.finfo(dtype).min)
    return PrefixTree(
        torch.cat([ids, questions.ids.expand(rows, -1)], dim=1), positions, mask, width + questions.ends
    )


def pad_left(rows: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids [rows, time] and lengths [rows]."""
    lengths = torch.tensor([len(r) for r in rows])
    width = max(int(lengths.max()), 1)
    return torch.tensor([[pad] * (width - len(r)) + list(r) for r in rows]), lengths


def answer_logits(
    model: PreTrainedModel,
    prefixes: Sequence[Sequence[int]],
    suffixes: Sequence[Sequence[int]],
    pad: int,
    how: Pass = Pass.TREE,
) -> torch.Tensor:
    """Logits after each (prefix, suffix) [rows, questions, vocabulary]; gradients flow in TREE."""
    if how is Pass.TREE:
        tree = build_tree(prefixes, Questions.of(suffixes), pad, model.dtype)
        return _logits(model, tree.ids, tree.positions, tree.mask, tree.answers)
    if how is Pass.CACHE:
        return _from_cache(model, prefixes, suffixes, pad)
    rows = [[*prefix, *suffix] for prefix in prefixes for suffix in suffixes]
    ids, lengths = pad_left(rows, pad)
    real = torch.arange(ids.shape[1])[None] >= (ids.shape[1] - lengths)[:, None]
    last = torch.tensor([ids.shape[1] - 1])
    logits = _logits(model, ids, (real.cumsum(1) - 1).clamp(min=0), real.long(), last)
    return logits.view(len(prefixes), len(suffixes), -1)


def usable_passes(model: PreTrainedModel) -> tuple[Pass, ...]:
    """The ways that give this model the same answers as separate passes, which come last.

    Tried on a few tokens rather than read from the model's name: architectures with relative
    biases, recurrent states or kernels that ignore a four-dimensional mask fail here.
    """
    vocabulary = max(int(model.config.get_text_config().vocab_size) - 1, 1)
    prefixes = [[(7 * i + 3) % vocabulary for i in range(n)] for n in (9, 5)]
    suffixes = [[(5 * i + 1) % vocabulary for i in range(n)] for n in (4, 2, 3)]
    tolerance = 1e-4 if model.dtype == torch.float32 else 2e-2
    usable = []
    with torch.no_grad():
        wanted = answer_logits(model, prefixes, suffixes, 0, Pass.SEPARATE).float().softmax(-1)
        for how in (Pass.TREE, Pass.CACHE):
            try:
                found = answer_logits(model, prefixes, suffixes, 0, how).float().softmax(-1)
            except (TypeError, ValueError, RuntimeError, AttributeError):
                continue  # this architecture does not take such inputs
            if float((found - wanted).abs().max()) <= tolerance:
                usable.append(how)
    return (*usable, Pass.SEPARATE)


def cheapest_pass(usable: Sequence[Pass], tokens: int) -> Pass:
    """The way to take for a row of `tokens` (prefix and questions together).

    A tree is one pass, but its attention spans the whole row, also between questions that do not see each
    other: for long rows copies of the prefix's keys and values cost less.
    """
    order = (Pass.TREE, Pass.CACHE) if tokens <= LONG_ROW else (Pass.CACHE, Pass.TREE)
    return next(how for how in (*order, Pass.SEPARATE) if how in usable)


def _logits(
    model: PreTrainedModel, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, keep: torch.Tensor
) -> torch.Tensor:
    """One pass; logits at the columns `keep` only, since the vocabulary is the widest matrix."""
    accepted = arguments(model)
    inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    if "position_ids" in accepted:
        inputs["position_ids"] = positions
    elif mask.dim() == 4:
        raise TypeError("the model takes no position_ids")
    if "logits_to_keep" in accepted:
        inputs["logits_to_keep"] = keep
    inputs = {k: v.to(model.device) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
    logits = model(**inputs).logits
    return logits if "logits_to_keep" in accepted else logits[:, keep.to(logits.device)]


def _from_cache(
    model: PreTrainedModel, prefixes: Sequence[Sequence[int]], suffixes: Sequence[Sequence[int]], pad: int
) -> torch.Tensor:
    """Encode the prefixes once, then every question on copies of their keys and values."""
    ids, lengths = pad_left(prefixes, pad)
    ends, spans = pad_left(suffixes, pad)
    real = torch.arange(ids.shape[1])[None] >= (ids.shape[1] - lengths)[:, None]
    real_ends = torch.arange(ends.shape[1])[None] >= (ends.shape[1] - spans)[:, None]
    device, count = model.device, len(suffixes)
    first = model(
        input_ids=ids.to(device),
        attention_mask=real.long().to(device),
        position_ids=(real.cumsum(1) - 1).clamp(min=0).to(device),
        use_cache=True,
        **keep_last(model),
    )
    positions = lengths.repeat_interleave(count)[:, None] + (real_ends.cumsum(1) - 1).clamp(min=0).repeat(
        len(ids), 1
    )
    mask = torch.cat([real.repeat_interleave(count, 0), real_ends.repeat(len(ids), 1)], dim=1)
    logits = model(
        input_ids=ends.repeat(len(ids), 1).to(device),
        attention_mask=mask.long().to(device),
        position_ids=positions.to(device),
        past_key_values=shared_prefixes(first.past_key_values, count),
        use_cache=True,
        **keep_last(model),
    ).logits
    return logits[:, -1].view(len(ids), count, -1)


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
