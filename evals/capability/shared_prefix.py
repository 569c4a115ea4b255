"""Requests that begin alike: their common beginning is computed once, and what follows it on its keys and values.

MMLU's five examples stand before every question of a subject: some 600 tokens before some 100 of its own. Only
the positions that are scored get logits. What is scored is what lm-eval scores, to rounding: of every run the
longest request is computed alone too, and nothing is shared with a model that answers it differently.
benchmarks/mmlu_five_shot.py measures the gain.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from evals.models.prefix_tree import PrefixLayer, keep_last, pad_left

Request = tuple[Any, list[int], list[int]]  # lm-eval's: its strings, context tokens, answer tokens
Answer = tuple[float, bool]  # log-probability of the answer, whether it is the model's first choice
Row = tuple[int, ...]  # what a request gives to the model: all but its last token

COST = 512  # tokens that a group must save: what a pass of its own costs, and its smaller batches
TOLERANCE = 1e-4  # in log-probability


# --- which rows share what --------------------------------------------------------------------


@dataclass(frozen=True)
class PrefixGroup:
    """Rows `start` to `stop` of a sorted list, and how many first tokens they share (0: each stands alone)."""

    start: int
    stop: int
    shared: int


@dataclass
class _Interval:
    """Rows that have `common` tokens in common, the intervals inside it, and the most tokens they can save."""

    start: int
    common: int
    parts: list[_Interval] = field(default_factory=list)
    stop: int = 0
    saved: int = 0
    whole: bool = False

    def close(self, cost: int) -> _Interval:
        self.stop = self.parts[-1].stop
        of_parts = sum(part.saved for part in self.parts)
        together = (self.stop - self.start - 1) * self.common - cost
        self.whole, self.saved = together > of_parts, max(together, of_parts)
        return self


def shared_groups(rows: Sequence[Row], room: Sequence[int], cost: int) -> list[PrefixGroup]:
    """Sorted `rows` in groups; `room[i]` of row i's first tokens may be shared.

    A group of n rows saves (n - 1) * shared - cost tokens. The candidates are the intervals of rows with equal
    common beginnings (Abouelhoda, Kurtz and Ohlebusch 2004), walked with a stack: each is shared as a whole or left
    to the intervals inside it, whichever saves more.
    """
    if not rows:
        return []
    pairs = zip(rows, rows[1:], room, room[1:], strict=False)
    common = [min(common_length(a, b), room_a, room_b) for a, b, room_a, room_b in pairs]
    opened: list[_Interval] = []
    found = _Interval(0, 0)
    for place, below in enumerate([*common, -1]):
        found = _Interval(place, 0, stop=place + 1)
        while opened and opened[-1].common > below:
            opened[-1].parts.append(found)
            found = opened.pop().close(cost)
        if opened and opened[-1].common == below:
            opened[-1].parts.append(found)
        else:
            opened.append(_Interval(found.start, below, [found]))
    return list(_chosen(found))


def _chosen(root: _Interval) -> Iterator[PrefixGroup]:
    waiting = [root]
    while waiting:
        interval = waiting.pop()
        if interval.whole or not interval.parts:
            yield PrefixGroup(interval.start, interval.stop, interval.common if interval.whole else 0)
        else:
            waiting += reversed(interval.parts)


def common_length(first: Row, second: Row) -> int:
    """How many first tokens two rows have in common."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(first), len(second)))


# --- scoring ----------------------------------------------------------------------------------


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
    """{place: answer} of those requests that share a beginning worth sharing; {} where the model does not give
    the same answers that way. `dtype` is the softmax's, None the logits'; `finished` is told of each.
    """
    if not _takes_prefixes(model):
        return {}
    members = _members(requests, max_length)
    rows = sorted(members)
    room = [len(row) - _scored(requests, members[row]) for row in rows]
    groups = [group for group in shared_groups(rows, room, COST) if group.shared]
    scorer = _Scorer(model, requests, members, pad, dtype)
    answers: dict[int, Answer] = {}
    with torch.inference_mode():
        if not groups or not scorer.is_exact(rows, groups):
            return {}
        for group in groups:
            prefix = scorer.encode(rows[group.start][: group.shared])
            in_order = sorted(rows[group.start : group.stop], key=len, reverse=True)
            for start in range(0, len(in_order), batch_size):
                of_batch = scorer.answers(in_order[start : start + batch_size], group.shared, prefix)
                answers |= of_batch
                for place, answer in of_batch.items():
                    finished(place, answer)
    return answers


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

    def is_exact(self, rows: Sequence[Row], groups: Sequence[PrefixGroup]) -> bool:
        """Whether the longest row gets the same answers on a shared beginning as by itself.

        Positions that depend on the row's length and states that a cache does not hold fail here.
        """
        group, row = max(
            ((group, row) for group in groups for row in rows[group.start : group.stop]),
            key=lambda pair: len(pair[1]),
        )
        others = [other for other in rows[group.start : group.stop] if other != row][:1]
        alone = self.answers([row], 0, None)
        shared = self.answers([row, *others], group.shared, self.encode(row[: group.shared]))
        return all(abs(shared[place][0] - value) <= TOLERANCE for place, (value, _) in alone.items())

    def encode(self, prefix: Row) -> Cache:
        cache = DynamicCache(config=self.model.config)
        ids = torch.tensor([prefix], device=self.model.device)
        self.model(input_ids=ids, past_key_values=cache, use_cache=True, **keep_last(self.model))
        return Cache(layers=[PrefixLayer(layer) for layer in cache.layers])

    def answers(self, rows: Sequence[Row], shared: int, prefix: Cache | None) -> dict[int, Answer]:
        """{place: answer} of the rows' requests, their first `shared` tokens from `prefix`."""
        kept = max(_scored(self.requests, self.members[row]) for row in rows)
        log_probs = self._log_probs([row[shared:] for row in rows], shared, prefix, kept)
        return {
            place: _answer(of_row, self.requests[place][2])
            for row, of_row in zip(rows, log_probs, strict=True)
            for place in self.members[row]
        }

    def _log_probs(self, ends: Sequence[Row], shared: int, prefix: Cache | None, kept: int) -> Tensor:
        """[rows, kept, vocabulary] at the last positions; the ends are padded on the left."""
        ids, lengths = pad_left(ends, self.pad)
        real = torch.arange(ids.shape[1])[None] >= (ids.shape[1] - lengths)[:, None]
        seen = torch.cat([torch.ones(len(ends), shared, dtype=torch.bool), real], dim=1)
        positions = shared + (real.cumsum(1) - 1).clamp(min=0)
        device = self.model.device
        logits = self.model(
            input_ids=ids.to(device),
            attention_mask=seen.long().to(device),
            position_ids=positions.to(device),
            past_key_values=prefix,
            use_cache=prefix is not None,
            **keep_last(self.model, kept),
        ).logits[:, -kept:]
        return torch.log_softmax(logits, dim=-1, dtype=self.dtype)


def _answer(log_probs: Tensor, answer: Sequence[int]) -> Answer:
    """From the last positions' log-probabilities [positions, vocabulary]."""
    scored = log_probs[-len(answer) :]
    tokens = torch.tensor(answer, device=scored.device)
    total = scored.gather(1, tokens[:, None]).sum()
    return float(total), bool((scored.argmax(-1) == tokens).all())
