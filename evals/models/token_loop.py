"""The token loop: one token for each live row and step, on keys and values that are kept.

The cache is allocated once, a row leaves the batch as soon as it has ended, and the model is asked for the last
position's logits only. A greedy choice between two tokens that rounding could turn is made on logits of the row
by itself, without padding and without cache (float32 only; see `NEAR_TIE`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

# Two logits nearer than this share of the row's largest are settled apart from the batch. Rounding in float32
# moves them by some 1e-6 of it; half precisions move them by 1e-2, where no bound could be kept.
NEAR_TIE = 5e-5


class Writing:
    """The state of one call of `generate`; `rows` maps the live batch to the caller's rows.

    `watch`, where it is set, is given the rows, the step and the logits of each choice; `ended` the rows that end.
    """

    watch: Callable[[list[int], int, Tensor], object] | None = None
    ended: Callable[[list[int]], object] | None = None

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        pad_id: int,
        record: bool,
    ) -> None:
        batch, device = len(prompts), model.device
        self.model, self.prompts, self.pad_id, self.record = model, prompts, pad_id, record
        self.exact = next(model.parameters()).dtype in (torch.float32, torch.float64)
        self.tokens = torch.full((batch, max_new_tokens), pad_id, device=device)
        self.lengths = torch.full((batch,), max_new_tokens, device=device)  # a row's limit until it has ended
        self.finished = torch.zeros(batch, dtype=torch.bool, device=device)
        self.log_probs = torch.zeros(batch, max_new_tokens, device=device)
        self.entropy = torch.zeros(batch, max_new_tokens, device=device)
        self.rows = torch.arange(batch, device=device)

    def run(self, temperature: float, stop_ids: Sequence[int], uniforms: Tensor | None) -> None:
        """Fill the tensors; `uniforms` is [batch, max_new_tokens], None at temperature 0."""
        raise NotImplementedError

    def alone(self, row: int, step: int) -> Tensor:
        """[vocabulary] float32 logits after a row's prompt and first `step` tokens, by themselves."""
        ids = [*self.prompts[row], *self.tokens[row, :step].tolist()]
        output = self.model(
            input_ids=torch.tensor([ids], device=self.tokens.device), use_cache=False, logits_to_keep=1
        )
        return output.logits[0, -1].float()

    def choose(self, logits: Tensor, temperature: float, draws: Tensor | None, step: int) -> Tensor:
        if self.watch:
            self.watch(self.rows.tolist(), step, logits)
        if temperature == 0:
            return self._greedy(logits, step)
        if draws is None:
            raise ValueError("sampling at a temperature above 0 needs uniform numbers")
        log_probs = (logits / temperature).log_softmax(-1)
        probs = log_probs.exp()
        tokens = inverse_cdf(probs, draws)
        if self.record:
            self.log_probs[self.rows, step] = log_probs.gather(1, tokens[:, None])[:, 0]
            # A token of probability 0 has log-probability -inf and adds nothing to the entropy.
            self.entropy[self.rows, step] = -(probs * log_probs.clamp(min=-1e4)).sum(-1)
        return tokens

    def _greedy(self, logits: Tensor, step: int) -> Tensor:
        """The likeliest token [live]; near ties by the row's own logits, which no batch can change."""
        best, tokens = logits.topk(2, dim=-1)
        chosen = tokens[:, 0]
        if self.exact:
            near = (best[:, 0] - best[:, 1]) <= NEAR_TIE * logits.abs().amax(-1)
            for i in near.nonzero()[:, 0].tolist():
                chosen[i] = self.alone(int(self.rows[i]), step).argmax()
        return chosen

    def keep(self, tokens: Tensor, stops: Tensor, step: int) -> Tensor:
        """Keep the live rows' tokens of a step; [live] bool, which of them ended."""
        self.tokens[self.rows, step] = tokens
        stopped = torch.isin(tokens, stops)
        self.lengths[self.rows[stopped]] = step + 1
        self.finished[self.rows[stopped]] = True
        ended = stopped | (self.lengths[self.rows] <= step + 1)
        if self.ended is not None and bool(ended.any()):
            self.ended(self.rows[ended].tolist())
        return ended


class TokenLoop(Writing):
    """One batch, padded on the left, on a cache that is allocated once; ended rows leave it."""

    positions: Tensor

    def run(self, temperature: float, stop_ids: Sequence[int], uniforms: Tensor | None) -> None:
        self._start()
        stops = torch.tensor(list(stop_ids), device=self.tokens.device)
        if uniforms is not None:
            uniforms = uniforms.to(self.tokens.device)
        for step in range(self.tokens.shape[1]):
            logits = self._logits(step)
            draws = None if uniforms is None else uniforms[self.rows, step]
            tokens = self.choose(logits, temperature, draws, step)
            ended = self.keep(tokens, stops, step)
            if bool(ended.all()):
                return
            self.input = tokens[:, None]
            self.positions = self.positions[:, -1:] + 1
            self._drop(ended)

    def _start(self) -> None:
        batch, room = self.tokens.shape
        self.input, self.mask = _left_padded(self.prompts, self.pad_id, room, self.tokens.device)
        self.width = self.input.shape[1]
        self.positions = (self.mask[:, : self.width].cumsum(1) - 1).clamp(min=0)
        self.padded = not bool(self.mask.all())
        self.cache = _cache(self.model, batch, self.width + room)

    def _logits(self, step: int) -> Tensor:
        """[live, vocabulary] float32, for the position after the last token."""
        output = self.model(
            input_ids=self.input,
            attention_mask=self.mask[:, : self.width + step] if self.padded else None,
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1].float()

    def _drop(self, ended: Tensor) -> None:
        """Take ended rows out: live rows from the end of the batch fill their places."""
        live = int((~ended).sum())
        if live == len(ended):
            return
        keep = torch.arange(live, device=ended.device)
        holes = ended[:live].nonzero()[:, 0]
        keep[holes] = live + (~ended[live:]).nonzero()[:, 0]
        self.cache.batch_select_indices(keep)
        self.rows, self.input = self.rows[keep], self.input[keep]
        self.positions, self.mask = self.positions[keep], self.mask[keep]


def inverse_cdf(probs: Tensor, uniforms: Tensor) -> Tensor:
    """Tokens [batch] drawn from `probs` [batch, vocabulary] by numbers [batch] in [0, 1).

    The sum runs in float64: in float32 it loses rare tokens of a large vocabulary.
    """
    cumulative = probs.double().cumsum(-1)
    point = uniforms.double()[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, point, right=True)[:, 0].clamp(max=probs.shape[-1] - 1)


def _left_padded(
    prompts: Sequence[Sequence[int]], pad_id: int, room: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Token ids [batch, width] and the attention mask [batch, width + room]."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (width - len(row)) + list(row) for row in prompts])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * (len(row) + room) for row in prompts])
    return ids.to(device), mask.to(device)


# --- the key/value cache ---------------------------------------------------------------------


def _cache(model: PreTrainedModel, batch: int, capacity: int) -> Cache:
    """A preallocated cache where all layers are attention layers, transformers' own elsewhere."""
    standard = DynamicCache(config=model.config)
    if all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in standard.layers):
        return Cache(layer_class_to_replicate=lambda: _PreallocatedLayer(batch, capacity))  # type: ignore[arg-type]
    return standard


class _PreallocatedLayer(DynamicLayer):
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
