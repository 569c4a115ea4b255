"""Sample responses from a causal language model.

`generate` continues token ids, also for the PPO rollout; `sample_responses` wraps it for prompts and texts. A
model's first call finds out which loop writes for it as one pass over the whole text would: the project's own, or
transformers' where the model has a state that no key/value cache holds.

Randomness is one uniform number per row and step, turned into a token by the inverse of the
cumulative distribution. In `sample_responses` they follow from the seed, the prompt's id and the sample's
number, so a row's tokens depend on these alone: not on the batch size, the neighbours, the order of
prompts or which of them a killed run had finished (up to rounding inside the model's matrix products).

A greedy response is the same to the last token in any batch (float32; see `evals.models.token_loop.NEAR_TIE`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.models.chat import turn_end_id
from evals.models.load import check_prompt_length, context_length, prompt_token_ids
from evals.models.packed_weights import packed_weights
from evals.models.thoughts import AUTO, Parted, read_tokens
from evals.models.token_loop import WORTH_SHARING, TokenLoop, Writing, shared_length
from evals.models.transformers_loop import RowByRow, TransformersLoop
from evals.values.conversation import Prompt, Response
from evals.values.errors import InputError

PROBED = (
    4  # tokens of a model's first response that a loop must continue as one pass over the whole text does
)
# How far logits may lie from those of one pass, as a share of their mean distance from their own mean: rounding
# gives some 1e-6 in float32 and 1e-1 at most in half precisions, a lost state some 1.
ROUNDING, HALF_ROUNDING = 1e-2, 0.5
WORTH_PACKING = 4  # tokens: packing takes as long as one or two

_loops: WeakKeyDictionary[PreTrainedModel, type[Writing]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Decoding:
    """How to write: greedy at temperature 0; `samples` responses a prompt; lengths in tokens, thoughts included.

    `thoughts`: how they are marked, as `evals.models.thoughts.pairs_of` reads it.
    """

    max_new_tokens: int
    temperature: float = 0.0
    samples: int = 1
    batch_size: int = 64
    seed: int = 0
    thoughts: str = AUTO

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
    told: list[int] = []  # rows that have ended and are not handed on yet

    def ended(rows: list[int], written: Generation) -> None:
        texts = zip(
            rows,
            read_responses(tokenizer, written, decoding.thoughts),
            written.finished.tolist(),
            strict=True,
        )
        for row, read, finished in texts:
            prompt, sample = pairs[row]
            responses[row] = read.response(prompt, sample, finished)
        told.extend(rows)
        if len(told) >= decoding.batch_size or len(responses) == len(pairs):
            done([responses[row] for row in told])
            told.clear()

    if pairs:
        generate(
            model,
            ids,
            max_new_tokens=decoding.max_new_tokens,
            temperature=decoding.temperature,
            stop_ids=stop_token_ids(model, tokenizer),
            pad_id=int(tokenizer.pad_token_id),
            uniforms=_uniforms(pairs, decoding),
            ended=ended,
            places=decoding.batch_size,
        )
    return [responses[row] for row in range(len(pairs))]


def read_responses(
    tokenizer: PreTrainedTokenizerBase, written: Generation, thoughts: str = AUTO
) -> list[Parted]:
    """Thought and answer of each row, without special tokens and outer white space."""
    rows = [
        row[:length] for row, length in zip(written.tokens.tolist(), written.lengths.tolist(), strict=True)
    ]
    return read_tokens(tokenizer, rows, thoughts)


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
    ended: Callable[[list[int], Generation], object] | None = None,
    places: int = 0,
) -> Generation:
    """Continue each prompt (token ids, any lengths) until a stop token or `max_new_tokens`.

    uniforms: [batch, max_new_tokens] numbers in [0, 1), needed unless `temperature` is 0.
    record: also fill `log_probs` and `entropy`. ended: given rows, and what was written for them, as soon as they
    have ended. places: so many are written at once, the longest prompts first; 0: all. The model runs in evaluation
    mode. Raises InputError for a model that no loop continues as one pass over the whole text does.
    """
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            kind = _loops.get(model) or _loops.setdefault(
                model, _loop_of(model, prompts, max_new_tokens, pad_id)
            )
            loop = kind(model, prompts, max_new_tokens, pad_id, record)
            if ended is not None:
                loop.ended = lambda rows: ended(rows, _written(loop, rows))
            loop.places = places
            with packed_weights(model, on=max_new_tokens >= WORTH_PACKING):
                loop.run(temperature, stop_ids, uniforms)
    finally:
        model.train(training)
    return _written(loop, slice(None))


def _written(loop: Writing, rows: list[int] | slice) -> Generation:
    """Copies: a tensor made in inference mode can not take part in a loss."""
    outputs = (loop.tokens, loop.lengths, loop.finished, loop.log_probs, loop.entropy)
    return Generation(*(output[rows].clone() for output in outputs))


def _loop_of(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int, pad_id: int
) -> type[Writing]:
    """The loop that writes what one pass over the whole text would. Raises InputError where there is none."""
    longest = max(prompts, key=len)
    shorter = min(prompts, key=len)[-max(1, len(longest) // 2) :]
    trials = [[shorter, longest, longest[::-1]]]
    if (shared := shared_length(prompts)) >= WORTH_SHARING:
        trials += [[longest[: shared + 1], longest]]
    for kind in (TokenLoop, TransformersLoop, RowByRow):
        loops = [kind(model, trial, min(PROBED, max_new_tokens), pad_id, False) for trial in trials]
        for loop in loops:
            loop.lengths[0] = 1  # leaves the batch first, as ended rows do
        if all(map(_is_exact, loops)):
            return kind
    raise InputError(
        f"{type(model).__name__} gives other tokens one by one than in one pass over the text, with "
        "transformers' own generation too",
        fix="take a model that this version of transformers can generate with, or record its responses and "
        "evaluate those",
    )


def _is_exact(loop: Writing) -> bool:
    """Whether a greedy start of several prompts together has the logits of each text alone."""
    share = ROUNDING if loop.exact else HALF_ROUNDING
    exact = True

    def compare(rows: list[int], steps: list[int], logits: Tensor) -> None:
        nonlocal exact
        for row, step, own in zip(rows, steps, logits, strict=True):
            alone = loop.alone(row, step)
            apart, spread = (own - alone).abs().mean(), (alone - alone.mean()).abs().mean()
            exact &= bool(apart <= share * spread) or not bool(torch.isfinite(spread))

    loop.watch = compare
    try:
        loop.run(0.0, [], None)
    except (AttributeError, IndexError, KeyError, NotImplementedError, TypeError, ValueError):
        return False
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return False
    return exact


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
