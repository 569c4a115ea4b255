"""Requests that begin alike: their common beginning is computed once, and what follows it on its keys and values.

MMLU's five examples stand before every question of a subject: some 600 tokens before some 100 of its own. HellaSwag's
four endings follow one context: many such small groups go into one pass. Only the positions that are scored get
logits, of requests that share nothing too: LAMBADA's last words alone, not its passages. What is scored is what
lm-eval scores, to rounding: of every run the longest request is computed alone too, and lm-eval's own way serves a
model that answers it differently. benchmarks/mmlu_five_shot.py and benchmarks/shared_contexts.py measure the gain.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from evals.capability.prefix_groups import PrefixGroup, Row, bundles, shared_groups
from evals.models.kept_logits import keep_last
from evals.models.prefix_tree import PrefixLayer, pad_left

Request = tuple[Any, list[int], list[int]]  # lm-eval's: its strings, context tokens, answer tokens
Answer = tuple[float, bool]  # log-probability of the answer, whether it is the model's first choice

COST = 512  # tokens that a shared pass must save: what a pass of its own costs, and its smaller batches
TOLERANCE = 1e-4  # in log-probability


def score_shared(
    model: PreTrainedModel,
    requests: Sequence[Request],
    *,
    max_length: int,
    batch_size: int,
    pad: int,
    dtype: torch.dtype | None = None,
    finished: Callable[[int, Answer], None] = lambda place, answer: None,
) -> dict[int, Answer]:
    """{place: answer} of those requests that the model can hold; {} where it does not give the same answers that
    way. `dtype` is the softmax's, None the logits'; `finished` is told of each.
    """
    if not _takes_prefixes(model):
        return {}
    members = _members(requests, max_length)
    scorer = _Scorer(model, requests, members, pad, dtype)
    passes = list(_passes(requests, members, batch_size))
    answers: dict[int, Answer] = {}
    with torch.inference_mode():
        if not passes or not scorer.is_exact(passes):
            return {}
        for families in passes:
            prefixes = scorer.encode(families)
            for batch in _batches(families, batch_size):
                of_batch = scorer.answers(batch, prefixes)
                answers |= of_batch
                for place, answer in of_batch.items():
                    finished(place, answer)
    return answers


@dataclass(frozen=True)
class _Family:
    """Rows, the longest first, of which the first `shared` tokens are the same; 0: they have nothing in common."""

    shared: int
    rows: list[Row]

    @property
    def prefix(self) -> Row:
        return self.rows[0][: self.shared]


def _passes(
    requests: Sequence[Request], members: Mapping[Row, Sequence[int]], batch_size: int
) -> Iterator[list[_Family]]:
    """The families of each pass: a large one by itself, a bundle of small ones, or all rows that share nothing."""

    def grouped(rows: Sequence[Row], cost: int) -> list[PrefixGroup]:
        return shared_groups(rows, [len(row) - _scored(requests, members[row]) for row in rows], cost)

    def longest_end(group: PrefixGroup) -> int:
        return max(map(len, left[group.start : group.stop])) - group.shared

    def family(rows: Sequence[Row], group: PrefixGroup) -> _Family:
        return _Family(group.shared, sorted(rows[group.start : group.stop], key=len, reverse=True))

    rows = sorted(members)
    groups = grouped(rows, COST)
    for group in groups:
        if group.shared:
            yield [family(rows, group)]
    left = [rows[group.start] for group in groups if not group.shared]
    small = [group for group in grouped(left, 0) if group.shared]
    alone = set(left)
    for bundle in bundles(small, batch_size, COST, longest_end):
        families = [family(left, group) for group in bundle]
        alone.difference_update(row for one in families for row in one.rows)
        yield families
    if alone:
        yield [_Family(0, sorted(alone, key=lambda row: (-len(row), row)))]


def _batches(families: Sequence[_Family], batch_size: int) -> Iterator[list[_Family]]:
    """All of a bundle at once; a large family, and what shares nothing, in parts."""
    if len(families) > 1:
        yield list(families)
        return
    (family,) = families
    for start in range(0, len(family.rows), batch_size):
        yield [_Family(family.shared, family.rows[start : start + batch_size])]


def _takes_prefixes(model: PreTrainedModel) -> bool:
    """Whether every layer is plain attention, and the model can be told where a row begins.

    In half precision every batch of another shape moves log-probabilities by some 1e-2: nothing is shared.
    """
    if next(model.parameters()).dtype not in (torch.float32, torch.float64):
        return False
    accepted = inspect.signature(model.forward).parameters
    if not {"attention_mask", "position_ids", "past_key_values"} <= accepted.keys():
        return False
    layers = DynamicCache(config=model.config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def _members(requests: Sequence[Request], max_length: int) -> dict[Row, list[int]]:
    """{row: places of its requests}; one-token answers to one context share a row. Too long ones are left out."""
    members: dict[Row, list[int]] = {}
    for place, (_, context, answer) in enumerate(requests):
        row = (*context, *answer[:-1])
        if len(row) <= max_length:
            members.setdefault(row, []).append(place)
    return members


def _scored(requests: Sequence[Request], places: Sequence[int]) -> int:
    """How many last positions of a row are scored."""
    return max(len(requests[place][2]) for place in places)


@dataclass(frozen=True)
class _Scorer:
    model: PreTrainedModel
    requests: Sequence[Request]
    members: Mapping[Row, Sequence[int]]
    pad: int
    dtype: torch.dtype | None

    def is_exact(self, passes: Sequence[Sequence[_Family]]) -> bool:
        """Whether rows get the same answers in a batch, and on a shared beginning, as by themselves.

        Positions that depend on the row's length and states that a cache does not hold fail here.
        """
        kinds = [[one for one in passes if bool(one[0].shared) is shared] for shared in (True, False)]
        return all(self._is_exact(some) for some in kinds if some)

    def _is_exact(self, passes: Sequence[Sequence[_Family]]) -> bool:
        """Of the longest row on its shared beginning; of rows that share nothing the shortest beside the longest."""
        longest, others = max(
            ((family, families) for families in passes for family in families),
            key=lambda pair: len(pair[0].rows[0]),
        )
        if longest.shared:
            tried = [longest, *[family for family in others if family is not longest][:1]]
            tried = [_Family(family.shared, family.rows[:2]) for family in tried]
        else:
            tried = [_Family(0, [longest.rows[0], longest.rows[-1]])]
        alone = self.answers([_Family(0, tried[0].rows[-1:])], None)
        together = self.answers(tried, self.encode(tried))
        return all(abs(together[place][0] - value) <= TOLERANCE for place, (value, _) in alone.items())

    def encode(self, families: Sequence[_Family]) -> _Prefixes | None:
        """Keys and values of their beginnings; None where they have none."""
        if not families[0].shared:
            return None
        cache = DynamicCache(config=self.model.config)
        ids, lengths = pad_left([family.prefix for family in families], self.pad)
        real = _real(ids, lengths)
        self.model(
            past_key_values=cache, use_cache=True, **self._inputs(ids, real, 0), **keep_last(self.model)
        )
        return _Prefixes(Cache(layers=[PrefixLayer(layer) for layer in cache.layers]), real)

    def answers(self, families: Sequence[_Family], prefixes: _Prefixes | None) -> dict[int, Answer]:
        """{place: answer} of the requests of families that have equally many rows; `prefixes` are theirs."""
        rows = [row for family in families for row in family.rows]
        ends = [row[family.shared :] for family in families for row in family.rows]
        kept = max(_scored(self.requests, self.members[row]) for row in rows)
        return {
            place: _answer(logits, self.requests[place][2], self.dtype)
            for row, logits in zip(rows, self._logits(ends, prefixes, kept), strict=True)
            for place in self.members[row]
        }

    def _logits(self, ends: Sequence[Row], prefixes: _Prefixes | None, kept: int) -> Tensor:
        """[rows, kept, vocabulary] at the last positions; the ends are padded on the left."""
        ids, lengths = pad_left(ends, self.pad)
        before = torch.zeros(len(ends), 0, dtype=torch.bool)
        if prefixes is not None:
            before = prefixes.seen.repeat_interleave(len(ends) // len(prefixes.seen), dim=0)
        inputs = self._inputs(ids, _real(ids, lengths), before.sum(1, keepdim=True), before)
        cache = {"past_key_values": prefixes.cache, "use_cache": True} if prefixes else {"use_cache": False}
        logits: Tensor = self.model(**inputs, **cache, **keep_last(self.model, kept)).logits
        return logits[:, -kept:]

    def _inputs(
        self, ids: Tensor, real: Tensor, shared: Tensor | int, before: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Of ids [rows, time] padded on the left, after `shared` tokens that are seen where `before` says."""
        seen = real if before is None else torch.cat([before, real], dim=1)
        positions = shared + (real.cumsum(1) - 1).clamp(min=0)
        inputs = {"input_ids": ids, "attention_mask": seen.long(), "position_ids": positions}
        return {name: value.to(self.model.device) for name, value in inputs.items()}


@dataclass(frozen=True)
class _Prefixes:
    """Keys and values of beginnings padded on the left, and which of their columns [prefixes, time] are tokens."""

    cache: Cache
    seen: Tensor


def _real(ids: Tensor, lengths: Tensor) -> Tensor:
    """Bool [rows, time]: which columns are not padding."""
    return torch.arange(ids.shape[1])[None] >= (ids.shape[1] - lengths)[:, None]


def _answer(logits: Tensor, answer: Sequence[int], dtype: torch.dtype | None) -> Answer:
    """From the last positions' logits [positions, vocabulary]; the softmax is of those that are scored alone."""
    scored = torch.log_softmax(logits[-len(answer) :], dim=-1, dtype=dtype)
    tokens = torch.tensor(answer, device=scored.device)
    total = scored.gather(1, tokens[:, None]).sum()
    return float(total), bool((scored.argmax(-1) == tokens).all())
