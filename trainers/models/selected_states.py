"""Hidden states of a language model's backbone at chosen positions only.

PPO reads the states that predict response tokens. In the last layer nothing else needs the output
projection, the feed-forward block and the final norm, since the prompt acts on the response through
its keys and values alone. With two layers and as many prompt tokens as response tokens that is a
fifth of all work; with many layers it is little, and nothing is lost.

Nor is a beginning that all rows of a batch share, as a system prompt is, computed for each: it passes the
layers once, and every row attends to its keys and values. Of SmolLM2's prompts with their template that is
a third of all tokens.

Where the first layers are frozen, as with adapters on the last ones, each batch passes them once
(`trainers.models.frozen_layers`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from evals.values.errors import InputError
from trainers.devices.sharding import is_sharded
from trainers.models.frozen_layers import (
    frozen_layers,
    kept_below,
    parted,
    probe_of,
    states_at,
    whole_states,
)
from trainers.models.fused import rms_norm, rotate

# Models whose layer is Llama's: pre-norm, rotary attention, gated feed-forward, two residual sums.
LLAMA_LIKE = ("LlamaModel", "MistralModel", "Qwen2Model")
LEAST_SHARED = 8  # tokens: of a shorter beginning the saving is less than what parting it costs


class BackboneStates:
    """Calls a backbone as a whole, in two parts where its first layers are frozen, or layer by layer where it is
    known to be Llama-like.

    The ways are compared once, on a few tokens, and the whole backbone serves unless they agree.
    """

    def __init__(
        self, model: PreTrainedModel, checkpointing: bool = False, frozen: int | None = None
    ) -> None:
        """`frozen`: how many first layers stay as they are, where that is not seen by what is trained."""
        self.backbone, self.checkpointing = model.base_model, checkpointing
        apart = not is_sharded(self.backbone)
        self.selects = apart and self._selects()
        count = frozen_layers(self.backbone) if frozen is None else frozen
        self._parts = parted(self.backbone, count) if apart and count and not self.selects else None
        self.frozen = count if self.selects or self._parts is not None else 0
        if checkpointing and not self.selects:
            checkpoint_layers(self.backbone, self.backbone)

    def __call__(self, ids: Tensor, positions: Tensor, lengths: Tensor | None = None) -> Tensor:
        """States [positions, width] of `ids` [batch, time], at places in `ids` flattened.

        `lengths` [batch] without the padding: what is known of the same rows from another model's pass is not
        computed again, where both share their frozen layers.
        """
        checkpointing = self.checkpointing and torch.is_grad_enabled()
        below = kept_below(self.backbone, self.frozen, self._below, ids, lengths) if self.frozen else None
        if self.selects:
            return selected_states(self.backbone, ids, positions, checkpointing, below, self.frozen)
        with checkpointed(self.backbone, checkpointing):
            if self._parts is None or below is None:
                return whole_states(self.backbone, ids, positions)
            return states_at(positions, self._parts.above, inputs_embeds=below)

    def _below(self, ids: Tensor) -> Tensor:
        """What the frozen layers make of `ids`: [batch, time, width]."""
        if self._parts is None:
            return _through(self.backbone, ids, self.frozen)
        states: Tensor = self._parts.below(input_ids=ids, use_cache=False).last_hidden_state
        return states

    def _selects(self) -> bool:
        backbone: Any = self.backbone
        config = backbone.config
        known = type(backbone).__name__ in LLAMA_LIKE and backbone.dtype == torch.float32
        if not known or getattr(config, "sliding_window", None) is not None:
            return False
        ids, places = probe_of(backbone)
        with torch.no_grad():
            selected, whole = (f(backbone, ids, places) for f in (selected_states, whole_states))
        return torch.allclose(selected, whole, rtol=1e-4, atol=1e-5)


def is_backbone_and_head(model: PreTrainedModel) -> bool:
    """Whether backbone and head, called apart, give the model's logits bit for bit."""
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        return False
    probe = torch.arange(min(4, model.config.vocab_size), device=model.device)[None]
    with torch.no_grad():
        output = model.base_model(input_ids=probe, use_cache=False)
        hidden = getattr(output, "last_hidden_state", None)
        if hidden is None or hidden.shape[-1] != head.in_features:
            return False
        return torch.equal(head(hidden), model(input_ids=probe, use_cache=False).logits)


@contextmanager
def checkpointed(backbone: Any, on: bool) -> Iterator[None]:
    """Inside, a differentiated pass checkpoints what `checkpoint_layers` prepared."""
    if not (on and torch.is_grad_enabled()):
        yield
        return
    backbone.train()  # transformers checkpoints in training mode only
    try:
        yield
    finally:
        backbone.eval()


def checkpoint_layers(backbone: Any, model: Any) -> None:
    """Have transformers checkpoint the layers of a backbone, that of `model` or `model` itself.

    It does so in training mode only, so that dropout is set to 0 first. Raises InputError where that
    leaves some random part.
    """
    for module in backbone.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout", "attn_dropout", "resid_dropout", "hidden_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    if not getattr(backbone, "supports_gradient_checkpointing", False):
        _refuse_checkpointing(backbone, "does not support it")
    # transformers is about to drop the older name.
    enable = getattr(backbone, "activation_checkpointing_enable", backbone.gradient_checkpointing_enable)
    enable({"use_reentrant": False})
    ids = torch.arange(min(8, backbone.config.vocab_size), device=backbone.device)[None]
    found = []
    for mode in (True, False):
        backbone.train(mode)
        with torch.no_grad():
            found.append(model(input_ids=ids, use_cache=False)[0])
    if not torch.equal(*found):
        _refuse_checkpointing(backbone, "is random in training mode even without dropout")


def _refuse_checkpointing(backbone: Any, why: str) -> None:
    raise InputError(
        f"{type(backbone).__name__} {why}", field="ppo.gradient_checkpointing", fix="leave it out"
    )


@dataclass(frozen=True)
class _Layout:
    """Which tokens of a batch are computed, as one row [tokens, width]: the first `shared` of all rows, which are
    alike, once; then the other `own` of each of the `rows`.
    """

    rows: int
    shared: int
    own: int

    @classmethod
    def of(cls, ids: Tensor, first: int) -> _Layout:
        """Of `ids` [rows, time], of which nobody asks for a state before the column `first`."""
        rows, time = ids.shape
        alike = (ids == ids[:1]).all(0)[:first].cumprod(0).sum() if rows > 1 else 0
        shared = int(alike) if alike >= LEAST_SHARED else 0
        return cls(rows, shared, time - shared)

    def flat(self, x: Tensor) -> Tensor:
        """[rows, time, ...] -> [tokens, ...]"""
        return torch.cat([x[0, : self.shared], x[:, self.shared :].flatten(0, 1)])

    def whole(self, x: Tensor) -> Tensor:
        """[tokens, ...] -> [rows, time, ...]"""
        return self.joined(*self.parts(x))

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[tokens, ...] -> [1, shared, ...] and [rows, own, ...]"""
        return x[None, : self.shared], x[self.shared :].unflatten(0, (self.rows, self.own))

    def joined(self, shared: Tensor, own: Tensor) -> Tensor:
        """[1, shared, ...] before each of [rows, own, ...]"""
        return torch.cat([shared.expand(self.rows, *shared.shape[1:]), own], 1)

    def mask(self, device: torch.device) -> Tensor:
        """[own, time]: which places each of a row's own attends to."""
        every = torch.ones(self.own, self.shared + self.own, dtype=torch.bool, device=device)
        return every.tril(self.shared)

    def places(self, positions: Tensor) -> Tensor:
        """Places in `ids` flattened, none of them shared, as places in what is computed."""
        row, column = positions // (self.shared + self.own), positions % (self.shared + self.own)
        return self.shared + row * self.own + column - self.shared


def selected_states(
    backbone: Any,
    ids: Tensor,
    positions: Tensor,
    checkpointing: bool = False,
    below: Tensor | None = None,
    skipped: int = 0,
) -> Tensor:
    """The states of a Llama-like backbone; causal attention, positions from 0, no mask.

    `below`: what the first `skipped` layers make of `ids`, where that is known.
    """
    time = ids.shape[1]
    layout = _Layout.of(ids, int((positions % time).min()) if len(positions) else time - 1)
    x = backbone.embed_tokens(layout.flat(ids)) if below is None else layout.flat(below)
    rotary = _rotary(backbone, x, layout)
    *layers, last = backbone.layers[skipped : backbone.config.num_hidden_layers]
    for layer in layers:
        x = (
            checkpoint(_layer, layer, x, rotary, layout, use_reentrant=False)
            if checkpointing
            else _layer(layer, x, rotary, layout)
        )
    places = layout.places(positions)
    if checkpointing:
        return checkpoint(_last_layer, backbone, last, x, rotary, layout, places, use_reentrant=False)
    return _last_layer(backbone, last, x, rotary, layout, places)


def _through(backbone: Any, ids: Tensor, count: int) -> Tensor:
    """What the first `count` layers make of `ids`."""
    layout = _Layout.of(ids, ids.shape[1] - 1)
    x = backbone.embed_tokens(layout.flat(ids))
    rotary = _rotary(backbone, x, layout)
    for layer in backbone.layers[:count]:
        x = _layer(layer, x, rotary, layout)
    return layout.whole(x)


def _layer(layer: Any, x: Tensor, rotary: tuple[Tensor, Tensor], layout: _Layout) -> Tensor:
    x = x + layer.self_attn.o_proj(_attention(layer, x, rotary, layout))
    return x + layer.mlp(_norm(layer.post_attention_layernorm, x))


def _last_layer(
    backbone: Any, last: Any, x: Tensor, rotary: tuple[Tensor, Tensor], layout: _Layout, places: Tensor
) -> Tensor:
    """The last layer and the final norm; after the attention at `places` alone."""
    attended = _attention(last, x, rotary, layout).index_select(0, places)
    x = x.index_select(0, places) + last.self_attn.o_proj(attended)
    return _norm(backbone.norm, x + last.mlp(_norm(last.post_attention_layernorm, x)))


def _attention(layer: Any, x: Tensor, rotary: tuple[Tensor, Tensor], layout: _Layout) -> Tensor:
    """What the heads of a layer gather, [tokens, heads * size]."""
    attention, x = layer.self_attn, _norm(layer.input_layernorm, x)
    shape = (len(x), -1, attention.head_dim)
    shared_query, query = layout.parts(rotate(attention.q_proj(x).view(shape), *rotary))
    shared_key, key = layout.parts(rotate(attention.k_proj(x).view(shape), *rotary))
    shared_value, value = layout.parts(attention.v_proj(x).view(shape))
    if not layout.shared:
        return _gathered(attention, query, key, value).flatten(0, 1)
    shared = _gathered(attention, shared_query, shared_key, shared_value)
    key, value = layout.joined(shared_key, key), layout.joined(shared_value, value)
    own = _gathered(attention, query, key, value, layout.mask(x.device))
    return torch.cat([shared[0], own.flatten(0, 1)])


def _gathered(
    attention: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> Tensor:
    """What heads [rows, time, heads, size] gather, [rows, time, heads * size]; without `mask` from what is before."""
    gathered = scaled_dot_product_attention(
        query.transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        attn_mask=mask,
        is_causal=mask is None,
        scale=attention.scaling,
        enable_gqa=query.shape[2] != key.shape[2],
    )
    return gathered.transpose(1, 2).flatten(2)


def _norm(norm: Any, x: Tensor) -> Tensor:
    return rms_norm(x, norm.weight, norm.variance_epsilon)


def _rotary(backbone: Any, x: Tensor, layout: _Layout) -> tuple[Tensor, Tensor]:
    """Cosines and sines [tokens, 1, size / 2]; transformers gives each half of a head the same."""
    places = torch.arange(layout.shared + layout.own, device=x.device)[None]
    every = (table.expand(layout.rows, -1, -1).unsqueeze(2) for table in backbone.rotary_emb(x[None], places))
    cos, sin = (layout.flat(table[..., : table.shape[-1] // 2]) for table in every)
    return cos, sin
