"""The layers before the first that is trained, as with adapters on the last ones: each text passes them once.

What they make of a batch serves every pass over that batch: of the reference, the critic and each epoch. A reward
model that was trained from the same base in the same way begins with the same layers: it is given the policy's own
(`begin_alike`), and what its pass has found of a text the policy's need not compute again. So it is in every family
and number type whose layers run one after another, which is tried on a few tokens.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import PreTrainedModel

FINAL_NORMS = ("norm", "final_layernorm", "final_layer_norm")
Below = Callable[[Tensor], Tensor]
"""What frozen layers make of ids [batch, time]: [batch, time, width]."""


@dataclass
class _Kept:
    """What frozen layers made of batches, while these live, and of the last `most` rows by their ids; 0: of none."""

    most: int = 0
    batches: WeakTensorKeyDictionary = field(default_factory=WeakTensorKeyDictionary)
    rows: OrderedDict[tuple[int, ...], Tensor] = field(default_factory=OrderedDict)

    def add(self, row: tuple[int, ...], states: Tensor) -> None:
        self.rows[row] = states
        while len(self.rows) > self.most:
            self.rows.popitem(last=False)


# By the last of the frozen layers, which policy, reference, critic and reward model may share.
_kept: WeakKeyDictionary[nn.Module, _Kept] = WeakKeyDictionary()


def kept_below(backbone: Any, count: int, below: Below, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
    """What the first `count` layers make of `ids` [batch, time, width], kept as long as this very tensor lives.

    Without a gradient. `lengths` [batch] of the rows without their padding, in which the states may be anything.
    """
    kept = _kept.setdefault(backbone.layers[count - 1], _Kept())
    if ids not in kept.batches:
        with torch.no_grad():
            if kept.most and lengths is not None:
                kept.batches[ids] = _by_rows(kept, below, ids, lengths.tolist())
            else:
                kept.batches[ids] = below(ids)
    states: Tensor = kept.batches[ids]
    return states


def _by_rows(kept: _Kept, below: Below, ids: Tensor, lengths: Sequence[int]) -> Tensor:
    """Rows that are known as they are known, the others in one pass."""
    rows = [tuple(row[:length]) for row, length in zip(ids.tolist(), lengths, strict=True)]
    new = [i for i, row in enumerate(rows) if row not in kept.rows]
    if len(new) == len(rows):
        states = below(ids)
    else:
        one = next(iter(kept.rows.values()))
        states = one.new_zeros(*ids.shape, one.shape[-1])
        for i, row in enumerate(rows):
            if row in kept.rows:
                states[i, : len(row)] = kept.rows[row]
        if new:
            states[new] = below(ids[new])
    for i in new:
        kept.add(rows[i], states[i, : lengths[i]])
    return states


@torch.no_grad()
def begin_alike(model: PreTrainedModel, other: PreTrainedModel, most: int) -> int:
    """Give `other` the frozen layers of `model` where its own first ones are the same; how many, 0: it keeps its own.

    Of the last `most` rows that one of them passes, what the layers made is kept for the other.
    """
    mine: Any = model.base_model
    theirs: Any = other.base_model
    count = frozen_layers(mine)
    if not count or type(mine) is not type(theirs) or len(theirs.layers) < count:
        return 0
    ours, own = ((m.embed_tokens, *m.layers[:count]) for m in (mine, theirs))
    if not all(_equal(a, b) for a, b in zip(ours, own, strict=True)) or not _same_states(mine, theirs, count):
        return 0
    theirs.embed_tokens = mine.embed_tokens
    for i in range(count):
        theirs.layers[i] = mine.layers[i]
    kept = _kept.setdefault(mine.layers[count - 1], _Kept())
    kept.most = max(kept.most, most)
    return count


def _equal(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules have the same parameters to the last bit, on one device and in one number type."""
    a, b = dict(one.named_parameters()), dict(other.named_parameters())
    return a.keys() == b.keys() and all(
        x.dtype == b[name].dtype and x.device == b[name].device and torch.equal(x, b[name])
        for name, x in a.items()
    )


def _same_states(mine: Any, theirs: Any, count: int) -> bool:
    """Whether the first layers make the same of a few tokens: settings beside the weights, such as rotation's base."""
    ids, _ = probe_of(mine)
    parts = [parted(backbone, count) for backbone in (mine, theirs)]
    if any(part is None for part in parts):
        return False
    one, other = (part.below(input_ids=ids, use_cache=False).last_hidden_state for part in parts if part)
    return torch.equal(one, other)


def frozen_layers(backbone: Any) -> int:
    """How many layers lie before the first with a weight that is trained; 0 where the embedding is, or none is."""
    embedding, layers = getattr(backbone, "embed_tokens", None), getattr(backbone, "layers", None)
    if embedding is None or layers is None or any(p.requires_grad for p in embedding.parameters()):
        return 0
    trained = [any(p.requires_grad for p in layer.parameters()) for layer in layers]
    return trained.index(True) if True in trained else 0


@dataclass(frozen=True)
class SplitBackbone:
    """A backbone's first layers, without its final norm, and the others, which take what the first make.

    They are the backbone's own modules: what is trained or switched off there is so here.
    """

    below: PreTrainedModel
    above: PreTrainedModel


def parted(backbone: Any, count: int) -> SplitBackbone | None:
    """Its parts before and after layer `count`; None unless they give the whole backbone's states on a few tokens.

    They do not where a state beside the hidden one passes from layer to layer, or where the embedding is scaled
    outside its module.
    """
    norm = next((name for name in FINAL_NORMS if hasattr(backbone, name)), None)
    if norm is None:
        return None
    parts = SplitBackbone(
        _some_layers(backbone, slice(count), {norm: nn.Identity()}),
        _some_layers(backbone, slice(count, None), {}),
    )
    training = backbone.training
    backbone.eval()
    ids, places = probe_of(backbone)
    try:
        with torch.no_grad():
            below = parts.below(input_ids=ids, use_cache=False).last_hidden_state
            states = states_at(places, parts.above, inputs_embeds=below)
            agree = torch.allclose(states, whole_states(backbone, ids, places), rtol=1e-4, atol=1e-5)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return None
    finally:
        backbone.train(training)
    return parts if agree else None


def _some_layers(backbone: Any, which: slice, changed: dict[str, nn.Module]) -> Any:
    """The backbone with some of its layers, and other modules in the places `changed`; all else is shared with it."""
    part, config = copy.copy(backbone), copy.copy(backbone.config)
    layers = backbone.layers[which]
    config.num_hidden_layers = len(layers)
    if getattr(config, "layer_types", None):  # which mask each layer has, by its place
        config.layer_types = config.layer_types[which]
    part.__dict__ |= {"config": config, "_modules": backbone._modules | {"layers": layers} | changed}
    return part


def probe_of(backbone: Any) -> tuple[Tensor, Tensor]:
    """A few ids [2, 6], and places in them flattened."""
    ids = torch.arange(12, device=backbone.device).remainder(backbone.config.vocab_size).view(2, 6)
    return ids, torch.tensor([1, 2, ids.numel() - 1], device=ids.device)


def whole_states(backbone: Any, ids: Tensor, positions: Tensor) -> Tensor:
    return states_at(positions, backbone, input_ids=ids)


def states_at(positions: Tensor, backbone: Any, **inputs: Tensor) -> Tensor:
    hidden = backbone(**inputs, use_cache=False).last_hidden_state
    return hidden.flatten(0, 1).index_select(0, positions)
