"""The token loop of transformers itself, for models whose state no key/value cache holds.

State-space and recurrent models keep a state of their own between tokens, by names of their own. Prompts of one
length go together, so that nothing is padded; which token is chosen stays ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from evals.models.token_loop import Writing


class TransformersLoop(Writing):
    """Batches of prompts of one length, each row to its end or the limit, by `model.generate`."""

    def run(self, temperature: float, stop_ids: Sequence[int], uniforms: Tensor | None) -> None:
        stops = torch.tensor(list(stop_ids), device=self.tokens.device)
        for rows in self._groups():
            self.rows = torch.tensor(rows, device=self.tokens.device)
            self._group(_Choice(self, temperature, stops, uniforms))

    def _groups(self) -> list[list[int]]:
        lengths = [len(prompt) for prompt in self.prompts]
        alike = [[row for row, n in enumerate(lengths) if n == length] for length in sorted(set(lengths))]
        places = self.places or len(lengths)
        return [rows[at : at + places] for rows in alike for at in range(0, len(rows), places)]

    def _group(self, choice: _Choice) -> None:
        ids = torch.tensor([list(self.prompts[row]) for row in self.rows.tolist()], device=self.tokens.device)
        # The model's own settings would add penalties and cuts of their own to the logits.
        own, self.model.generation_config = self.model.generation_config, GenerationConfig()
        try:
            self.model.generate(  # type: ignore[operator]
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self.tokens.shape[1],
                do_sample=False,
                eos_token_id=choice.stops.tolist() or None,
                pad_token_id=self.pad_id,
                logits_processor=LogitsProcessorList([choice]),
            )
        finally:
            self.model.generation_config = own


class RowByRow(TransformersLoop):
    """For models whose rows of one batch touch each other, as RWKV's do."""

    def _groups(self) -> list[list[int]]:
        return [[row] for row in range(len(self.prompts))]


class _Choice(LogitsProcessor):
    """Chooses and keeps each token, and leaves transformers that one alone to choose."""

    def __init__(self, writing: Writing, temperature: float, stops: Tensor, uniforms: Tensor | None) -> None:
        self.writing, self.temperature, self.stops = writing, temperature, stops
        self.uniforms = None if uniforms is None else uniforms.to(stops.device)
        self.rows, self.step = writing.rows, 0
        self.live = torch.ones(len(self.rows), dtype=torch.bool, device=stops.device)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.writing.rows = rows = self.rows[self.live]
        draws = None if self.uniforms is None else self.uniforms[rows, self.step]
        steps = torch.full_like(rows, self.step)
        tokens = self.writing.choose(scores[self.live].float(), self.temperature, draws, steps)
        alone = torch.full_like(scores, -torch.inf)
        alone[self.live.nonzero()[:, 0], tokens] = 0.0
        alone[~self.live] = 0.0  # transformers pads these
        self.live[self.live.clone()] = ~self.writing.keep(tokens, self.stops, steps)
        self.step += 1
        return alone
