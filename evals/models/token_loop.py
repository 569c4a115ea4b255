"""The token loop: one token for each live row and step, on keys and values that are kept.

The cache is allocated once, a row leaves the batch as soon as it has ended, a waiting one takes its place, and
the model is asked for the last position's logits only. A greedy choice between two tokens that rounding could turn
is made on logits of the row by itself, without padding and without cache (float32 only; see `NEAR_TIE`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile

import torch
from torch import Tensor
from transformers import PreTrainedModel

from evals.models.kept_logits import last
from evals.models.preallocated_cache import PreallocatedLayer, has_rows_apart, new_cache

# Two logits nearer than this share of the row's largest are settled apart from the batch. Rounding in float32
# moves them by some 1e-6 of it; half precisions move them by 1e-2, where no bound could be kept.
NEAR_TIE = 5e-5
SPARE = 64  # columns of the cache beside what rows need: so many unread ones are dropped together
WORTH_SHARING = 16  # tokens that all prompts begin with, such as a system turn, are read once
AT_ONCE = 4  # waiting prompts are read when this part of the places is free: few reads of many


class Writing:
    """The state of one call of `generate`; `rows` maps the live batch to the caller's rows.

    `watch`, where it is set, is given the rows, their steps and the logits of each choice; `ended` the rows that end.
    `places` is how many rows are written at once; 0: all.
    """

    watch: Callable[[list[int], list[int], Tensor], object] | None = None
    ended: Callable[[list[int]], object] | None = None
    places = 0

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
        self.last = last(1, device)

    def run(self, temperature: float, stop_ids: Sequence[int], uniforms: Tensor | None) -> None:
        """Fill the tensors; `uniforms` is [batch, max_new_tokens], None at temperature 0."""
        raise NotImplementedError

    def alone(self, row: int, step: int) -> Tensor:
        """[vocabulary] float32 logits after a row's prompt and first `step` tokens, by themselves."""
        ids = [*self.prompts[row], *self.tokens[row, :step].tolist()]
        output = self.model(
            input_ids=torch.tensor([ids], device=self.tokens.device),
            use_cache=False,
            logits_to_keep=self.last,
        )
        return output.logits[0, -1].float()

    def choose(self, logits: Tensor, temperature: float, draws: Tensor | None, steps: Tensor) -> Tensor:
        """Tokens [live] for the `steps` [live] that the rows are at."""
        if self.watch:
            self.watch(self.rows.tolist(), steps.tolist(), logits)
        if temperature == 0:
            return self._greedy(logits, steps)
        if draws is None:
            raise ValueError("sampling at a temperature above 0 needs uniform numbers")
        log_probs = (logits / temperature).log_softmax(-1)
        probs = log_probs.exp()
        tokens = inverse_cdf(probs, draws)
        if self.record:
            self.log_probs[self.rows, steps] = log_probs.gather(1, tokens[:, None])[:, 0]
            # A token of probability 0 has log-probability -inf and adds nothing to the entropy.
            self.entropy[self.rows, steps] = -(probs * log_probs.clamp(min=-1e4)).sum(-1)
        return tokens

    def _greedy(self, logits: Tensor, steps: Tensor) -> Tensor:
        """The likeliest token [live]; near ties by the row's own logits, which no batch can change."""
        best, tokens = logits.topk(2, dim=-1)
        chosen = tokens[:, 0]
        if self.exact:
            near = (best[:, 0] - best[:, 1]) <= NEAR_TIE * logits.abs().amax(-1)
            for i in near.nonzero()[:, 0].tolist():
                chosen[i] = self.alone(int(self.rows[i]), int(steps[i])).argmax()
        return chosen

    def keep(self, tokens: Tensor, stops: Tensor, steps: Tensor) -> Tensor:
        """Keep the live rows' tokens of their steps; [live] bool, which of them ended."""
        self.tokens[self.rows, steps] = tokens
        stopped = torch.isin(tokens, stops)
        self.lengths[self.rows[stopped]] = steps[stopped] + 1
        self.finished[self.rows[stopped]] = True
        ended = stopped | (self.lengths[self.rows] <= steps + 1)
        if self.ended is not None and bool(ended.any()):
            self.ended(self.rows[ended].tolist())
        return ended


class TokenLoop(Writing):
    """Rows on a cache that is allocated once, their last tokens in one column; ended rows leave it.

    With fewer places than rows the longest prompts come first, and waiting ones are read where enough places are free.
    """

    input: Tensor  # [live, tokens that the model has not seen]
    positions: Tensor  # of these
    steps: Tensor  # [live] tokens that each row has written
    starts: Tensor  # [live] columns of the cache before a row's first
    shared: list[PreallocatedLayer]  # of the one row that all prompts begin with

    def run(self, temperature: float, stop_ids: Sequence[int], uniforms: Tensor | None) -> None:
        stops = torch.tensor(list(stop_ids), device=self.tokens.device)
        drawn = None if uniforms is None else uniforms.to(self.tokens.device)
        waiting = list(range(len(self.prompts)))
        places = self.places or len(waiting)
        joins = places < len(waiting) and has_rows_apart(self.model)
        if places < len(waiting):
            waiting.sort(key=lambda row: -len(self.prompts[row]))
        self.rows = self.rows[:0]
        self.shared = self._read_shared()
        while waiting or len(self.rows):
            if not len(self.rows):
                room = self.tokens.shape[1] + (SPARE if waiting[places:] else 0)
                self._begin(waiting[:places], room)
                waiting = waiting[places:]
            elif joins and waiting and places - len(self.rows) >= max(1, places // AT_ONCE):
                free = places - len(self.rows)
                self._admit(waiting[:free], temperature, stops, drawn)
                waiting = waiting[free:]
            if joins:
                self._make_room(len(self.prompts[waiting[0]]) if waiting else 0)
            self._step(temperature, stops, drawn)

    def _begin(self, rows: Sequence[int], room: int) -> None:
        """Make `rows` the live ones, on a cache of their own with `room` columns after their prompts."""
        prompts, device = [self.prompts[row] for row in rows], self.tokens.device
        self.rows = torch.tensor(list(rows), device=device)
        ids, self.starts = _left_padded(prompts, self.pad_id, device)
        width = ids.shape[1]
        positions = (torch.arange(width, device=device) - self.starts[:, None]).clamp(min=0)
        self.steps = torch.zeros_like(self.rows)
        self.padded = bool(self.starts.any())
        self.cache = new_cache(self.model, len(rows), width + room)
        if self.shared:
            layers = [layer.for_rows(self.starts.tolist(), width + room) for layer in self.shared]
            self.cache.layers.extend(layers)
        read = self.cache.get_seq_length()
        self.input, self.positions = ids[:, read:], positions[:, read:]

    def _read_shared(self) -> list[PreallocatedLayer]:
        """The keys and values of the tokens that all prompts begin with, by layer; none where these are few.

        A row with padding has less of its beginning in as many columns, and reads the rest with its own tokens.
        """
        length = shared_length(self.prompts)
        if length < WORTH_SHARING or not has_rows_apart(self.model):
            return []
        once = new_cache(self.model, 1, length)
        ids = torch.tensor([list(self.prompts[0][:length])], device=self.tokens.device)
        self.model(input_ids=ids, past_key_values=once, use_cache=True, logits_to_keep=self.last)
        return [layer for layer in once.layers if isinstance(layer, PreallocatedLayer)]

    def _step(self, temperature: float, stops: Tensor, uniforms: Tensor | None) -> None:
        """One token for each live row; ended rows leave."""
        draws = None if uniforms is None else uniforms[self.rows, self.steps]
        tokens = self.choose(self._logits(), temperature, draws, self.steps)
        ended = self.keep(tokens, stops, self.steps)
        self.input, self.steps = tokens[:, None], self.steps + 1
        self.positions = self.positions[:, -1:] + 1
        self._drop(ended)

    def _logits(self) -> Tensor:
        """[live, vocabulary] float32, for the position after the last token."""
        columns = torch.arange(self.cache.get_seq_length() + self.input.shape[1], device=self.starts.device)
        output = self.model(
            input_ids=self.input,
            attention_mask=(columns >= self.starts[:, None]).long() if self.padded else None,
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=self.last,
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
        self.rows, self.input, self.positions, self.steps, self.starts = (
            of[keep] for of in (self.rows, self.input, self.positions, self.steps, self.starts)
        )

    def _admit(self, rows: Sequence[int], temperature: float, stops: Tensor, uniforms: Tensor | None) -> None:
        """Read the prompts of `rows`, write their first tokens, and let them join those who write."""
        cache, end = self.cache, self.cache.get_seq_length()
        others = (self.rows, self.input, self.positions, self.steps, self.starts)
        self._begin(rows, 0)
        self._step(temperature, stops, uniforms)
        for layer, new in zip(cache.layers, self.cache.layers, strict=True):
            assert isinstance(layer, PreallocatedLayer) and isinstance(new, PreallocatedLayer)
            layer.admit(new)
        self.starts = self.starts + (end - self.cache.get_seq_length())
        mine = (self.rows, self.input, self.positions, self.steps, self.starts)
        self.rows, self.input, self.positions, self.steps, self.starts = (
            torch.cat(pair) for pair in zip(others, mine, strict=True)
        )
        self.cache, self.padded = cache, True

    def _make_room(self, longest: int) -> None:
        """Drop the columns that no live row reads, where many are, and as many stay as `longest` waits for."""
        end = self.cache.get_seq_length()
        unread = min(int(self.starts.min()), end - longest)
        if unread >= SPARE:
            for layer in self.cache.layers:
                assert isinstance(layer, PreallocatedLayer)
                layer.forget(unread)
            self.starts = self.starts - unread


def inverse_cdf(probs: Tensor, uniforms: Tensor) -> Tensor:
    """Tokens [batch] drawn from `probs` [batch, vocabulary] by numbers [batch] in [0, 1).

    The sum runs in float64: in float32 it loses rare tokens of a large vocabulary.
    """
    cumulative = probs.double().cumsum(-1)
    point = uniforms.double()[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, point, right=True)[:, 0].clamp(max=probs.shape[-1] - 1)


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with; the last of each is never among them. 0 for a single one."""
    if len(prompts) < 2:
        return 0
    # What the first and the last in alphabetical order share, all between them do.
    first, last = min(map(list, prompts)), max(map(list, prompts))
    same = (a == b for a, b in zip(first, last, strict=False))
    return min(len(list(takewhile(bool, same))), min(map(len, prompts)) - 1)


def _left_padded(
    prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Token ids [batch, width], and how many columns [batch] of each row are padding."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (width - len(row)) + list(row) for row in prompts])
    return ids.to(device), torch.tensor([width - len(row) for row in prompts], device=device)
