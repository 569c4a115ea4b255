"""Sample responses from a causal language model.

`generate` is the token loop, also used by the PPO rollout; `sample_responses` wraps it for prompts
and texts. The loop keeps its key/value cache in tensors allocated once, drops a row from the batch
as soon as it has ended, stops when none is left, and asks the model for the last position's logits
only.

Randomness is one uniform number per row and step, turned into a token by the inverse of the
cumulative distribution. In `sample_responses` they follow from the seed, the prompt's id and the sample's
number, so a row's tokens depend on these alone: not on the batch size, the neighbours, the order of
prompts or which of them a killed run had finished (up to rounding inside the model's matrix products).

A greedy choice between two tokens that rounding could turn is made on logits of the row by itself, without
padding and without cache (float32 only; see `NEAR_TIE`). A greedy response is thus the same to the last
token in any batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from evals.models.chat import turn_end_id
from evals.models.load import check_prompt_length, context_length, prompt_token_ids
from evals.values.conversation import Prompt, Response
from evals.values.errors import InputError

# Two logits nearer than this share of the row's largest are settled apart from the batch. Rounding in float32
# moves them by some 1e-6 of it; half precisions move them by 1e-2, where no bound could be kept.
NEAR_TIE = 5e-5


@dataclass(frozen=True)
class Decoding:
    """How to write: greedy at temperature 0; `samples` responses a prompt; lengths in tokens."""

    max_new_tokens: int
    temperature: float = 0.0
    samples: int = 1
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("max_new_tokens", "samples", "batch_size"):
            if getattr(self, field) < 1:
                raise InputError(f"is {getattr(self, field)}", field=field, fix="give at least 1")
        if not self.temperature >= 0:
            raise InputError(f"is {self.temperature}", field="temperature", fix="give 0 (greedy) or more")


@dataclass(frozen=True)
class Generation:
    """What a model wrote for a batch of prompts, padded on the right.

    tokens: [batch, time] int64, the stop token included, PAD after it.
    lengths: [batch] int64, tokens written. finished: [batch] bool, False where the limit cut.
    log_probs, entropy: [batch, time] float32, nats at the sampling temperature, 0 after the end;
    all 0 when they were not asked for.
    """

    tokens: Tensor
    lengths: Tensor
    finished: Tensor
    log_probs: Tensor
    entropy: Tensor


def sample_responses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    decoding: Decoding,
    progress: Callable[[int], None] | None = None,
) -> list[Response]:
    """`decoding.samples` responses to each prompt, in the order of `prompts`.

    `progress` is told the number of responses just finished. Raises InputError for a prompt that
    leaves no room for `max_new_tokens`.
    """
    pairs = [(prompt, sample) for prompt in prompts for sample in range(decoding.samples)]
    return sample_pairs(model, tokenizer, pairs, decoding, lambda done: progress and progress(len(done)))


def sample_pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[tuple[Prompt, int]],
    decoding: Decoding,
    done: Callable[[Sequence[Response]], object],
) -> list[Response]:
    """One response to each (prompt, number of the sample), in their order; `done` is given each finished
    batch, so that a kill loses one batch at most. Raises InputError as `sample_responses` does.
    """
    encoded = {prompt.id: prompt_token_ids(tokenizer, prompt.messages) for prompt, _ in pairs}
    ids = [encoded[prompt.id] for prompt, _ in pairs]
    room = context_length(model) - decoding.max_new_tokens
    check_prompt_length([prompt for prompt, _ in pairs], [len(row) for row in ids], room)
    responses: dict[int, Response] = {}
    # Like lengths together, longest first: little padding, and too large a batch fails at once.
    order = sorted(range(len(pairs)), key=lambda row: -len(ids[row]))
    for start in range(0, len(order), decoding.batch_size):
        batch = order[start : start + decoding.batch_size]
        written = generate(
            model,
            [ids[row] for row in batch],
            max_new_tokens=decoding.max_new_tokens,
            temperature=decoding.temperature,
            stop_ids=stop_token_ids(model, tokenizer),
            pad_id=int(tokenizer.pad_token_id),
            uniforms=_uniforms([pairs[row] for row in batch], decoding),
        )
        for row, text, ended in zip(
            batch, response_texts(tokenizer, written), written.finished.tolist(), strict=True
        ):
            prompt, sample = pairs[row]
            responses[row] = Response(prompt, text, sample, ended)
        done([responses[row] for row in batch])
    return [responses[row] for row in range(len(pairs))]


def response_texts(tokenizer: PreTrainedTokenizerBase, written: Generation) -> list[str]:
    """The text of each row, without special tokens and outer white space."""
    rows = [
        row[:length] for row, length in zip(written.tokens.tolist(), written.lengths.tolist(), strict=True)
    ]
    texts = tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [text.strip() for text in texts]


def stop_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The end of a turn in the template, the tokenizer's EOS, and those of the model's generation settings."""
    extra = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    extra = [] if extra is None else extra if isinstance(extra, list) else [extra]
    return sorted({int(tokenizer.eos_token_id), turn_end_id(tokenizer), *map(int, extra)})


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    stop_ids: Sequence[int],
    pad_id: int,
    uniforms: Tensor | None = None,
    record: bool = False,
) -> Generation:
    """Continue each prompt (token ids, any lengths) until a stop token or `max_new_tokens`.

    uniforms: [batch, max_new_tokens] numbers in [0, 1), needed unless `temperature` is 0.
    record: also fill `log_probs` and `entropy`. The model runs in evaluation mode.
    """
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            loop = _Loop(model, prompts, max_new_tokens, pad_id, record)
            loop.run(temperature, stop_ids, uniforms)
    finally:
        model.train(training)
    # Copies: a tensor made in inference mode can not take part in a loss.
    outputs = (loop.tokens, loop.lengths, loop.finished, loop.log_probs, loop.entropy)
    return Generation(*(output.clone() for output in outputs))


class _Loop:
    """The state of one call of `generate`; `rows` maps the live batch to the caller's rows."""

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        pad_id: int,
        record: bool,
    ) -> None:
        batch, device = len(prompts), model.device
        self.model, self.record = model, record
        self.exact = next(model.parameters()).dtype in (torch.float32, torch.float64)
        self.tokens = torch.full((batch, max_new_tokens), pad_id, device=device)
        self.lengths = torch.full((batch,), max_new_tokens, device=device)
        self.finished = torch.zeros(batch, dtype=torch.bool, device=device)
        self.log_probs = torch.zeros(batch, max_new_tokens, device=device)
        self.entropy = torch.zeros(batch, max_new_tokens, device=device)
        self.rows = torch.arange(batch, device=device)
        self.prompts = prompts
        self.input, self.mask = _left_padded(prompts, pad_id, max_new_tokens, device)
        self.width = self.input.shape[1]
        self.positions = (self.mask[:, : self.width].cumsum(1) - 1).clamp(min=0)
        self.padded = not bool(self.mask.all())
        self.cache = _cache(model, batch, self.width + max_new_tokens)

    def run(self, temperature: float, stop_ids: Sequence[int], uniforms: Tensor | None) -> None:
        stops = torch.tensor(list(stop_ids), device=self.tokens.device)
        if uniforms is not None:
            uniforms = uniforms.to(self.tokens.device)
        for step in range(self.tokens.shape[1]):
            logits = self._logits(step)
            draws = None if uniforms is None else uniforms[self.rows, step]
            tokens = self._choose(logits, temperature, draws, step)
            self.tokens[self.rows, step] = tokens
            ended = torch.isin(tokens, stops)
            if bool(ended.any()):
                self.lengths[self.rows[ended]] = step + 1
                self.finished[self.rows[ended]] = True
                if bool(ended.all()):
                    return
            self.input = tokens[:, None]
            self.positions = self.positions[:, -1:] + 1
            self._drop(ended)

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

    def _choose(self, logits: Tensor, temperature: float, draws: Tensor | None, step: int) -> Tensor:
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
                chosen[i] = self._alone(int(self.rows[i]), step).argmax()
        return chosen

    def _alone(self, row: int, step: int) -> Tensor:
        """[vocabulary] float32 logits after a row's prompt and first `step` tokens, by themselves."""
        ids = [*self.prompts[row], *self.tokens[row, :step].tolist()]
        output = self.model(
            input_ids=torch.tensor([ids], device=self.tokens.device), use_cache=False, logits_to_keep=1
        )
        return output.logits[0, -1].float()

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


def _uniforms(pairs: Sequence[tuple[Prompt, int]], decoding: Decoding) -> Tensor | None:
    """[pairs, max_new_tokens] numbers in [0, 1), each row by the seed, the prompt's id and the sample."""
    if decoding.temperature == 0:
        return None
    rows = []
    for prompt, sample in pairs:
        name = f"{decoding.seed}\0{prompt.id}\0{sample}".encode()
        generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name).digest()[:8]) >> 1)
        rows.append(torch.rand(decoding.max_new_tokens, generator=generator, dtype=torch.float64))
    return torch.stack(rows)


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
