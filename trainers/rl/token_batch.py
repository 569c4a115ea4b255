"""Passes of the policy, the reference and the critic over prompts with their responses.

Prompt and response are joined and padded on the right, so that positions start at 0 and no
attention mask is needed: in a causal model nothing to the left sees the padding. Vocabulary logits
and values are computed at the response's positions only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from evals.models.kept_logits import last
from evals.values.errors import InputError
from trainers.devices.sharding import is_sharded
from trainers.models.selected_states import (
    BackboneStates,
    checkpoint_layers,
    checkpointed,
    is_backbone_and_head,
)
from trainers.rl.formulas import token_log_probs


@dataclass(frozen=True)
class TokenBatch:
    """Some rows of a rollout, ready for a forward pass.

    rows: [batch] which rows of the rollout. ids: [batch, width] prompt, response, padding.
    predictors: [tokens] where, in ids flattened, each response token is predicted (one to its left).
    targets: [tokens] the response tokens, row by row. mask: [batch, time] True on them.
    lengths: [batch] tokens of ids without the padding. first: the first column of ids that predicts a
    response token. ahead: by pass, what it gave with a graph that a step has still to take.
    """

    rows: Tensor
    ids: Tensor
    lengths: Tensor
    predictors: Tensor
    targets: Tensor
    mask: Tensor
    first: int = 0
    ahead: dict[object, Tensor] = field(default_factory=dict, compare=False)

    def known(self, by: object) -> Tensor | None:
        """What the pass `by` gave ahead: its values, and with gradients on its graph, once."""
        if by in self.ahead:
            return self.ahead.pop(by) if torch.is_grad_enabled() else self.ahead[by].detach()
        return None

    def padded(self, flat: Tensor) -> Tensor:
        """[tokens] -> [batch, time], 0 in the padding; gradients pass."""
        return flat.new_zeros(self.mask.shape).masked_scatter(self.mask, flat)

    def take(self, x: Tensor) -> Tensor:
        """This batch's rows of a rollout's [all rows, time] tensor, cut to this batch's time."""
        return x[self.rows, : self.mask.shape[1]]


def token_batch(
    prompts: Sequence[Sequence[int]], responses: Tensor, lengths: Tensor, rows: Sequence[int], pad_id: int
) -> TokenBatch:
    """Join prompts (token ids) with `responses` [all rows, time] of `lengths` [all rows]."""
    starts = [len(prompts[row]) for row in rows]
    spans = [int(lengths[row]) for row in rows]
    ends = [start + span for start, span in zip(starts, spans, strict=True)]
    width = max(ends)
    ids = torch.full((len(rows), width), pad_id)
    predictors = []
    for i, (row, start, span) in enumerate(zip(rows, starts, spans, strict=True)):
        ids[i, :start] = torch.tensor(prompts[row])
        ids[i, start : start + span] = responses[row, :span]
        predictors.append(torch.arange(span) + i * width + start - 1)
    mask = torch.arange(max(spans)) < torch.tensor(spans)[:, None]
    where = (torch.tensor(rows), ids, torch.tensor(ends), torch.cat(predictors), mask)
    index, ids, whole, places, mask = (part.to(responses.device) for part in where)
    return TokenBatch(index, ids, whole, places, ids.flatten()[places + 1], mask, min(starts) - 1)


def empty_batch(pad_id: int, device: torch.device) -> TokenBatch:
    """A batch of no response tokens: a pass that adds nothing, for a process that must keep step with others."""
    none = torch.zeros(0, dtype=torch.long, device=device)
    ids = torch.full((1, 1), pad_id, device=device)
    whole = torch.ones(1, dtype=torch.long, device=device)
    return TokenBatch(none, ids, whole, none, none, torch.zeros(0, 0, dtype=torch.bool, device=device))


def micro_batches(
    prompts: Sequence[Sequence[int]],
    responses: Tensor,
    lengths: Tensor,
    rows: Sequence[int],
    size: int,
    pad_id: int,
) -> list[TokenBatch]:
    """`rows` in batches of `size` of like length, so that little is padding."""
    spans = lengths.tolist()
    order = sorted(rows, key=lambda row: len(prompts[row]) + spans[row])
    return [
        token_batch(prompts, responses, lengths, order[start : start + size], pad_id)
        for start in range(0, len(order), size)
    ]


class LanguageModelPass:
    """Response log-probabilities under a causal language model.

    The vocabulary projection runs at the response's positions alone where the model is a backbone
    and a linear head (checked on its own output once); a model that does more to its logits, such
    as a soft cap, or that is split over processes, is called whole. With `checkpointing` a pass that
    is differentiated keeps each layer's input only, and computes the rest again.
    """

    def __init__(self, model: PreTrainedModel, temperature: float, checkpointing: bool = False) -> None:
        self.model, self.temperature = model, temperature
        self.splits = not is_sharded(model) and is_backbone_and_head(model)
        self._states = BackboneStates(model, checkpointing) if self.splits else None
        self._checkpointing = checkpointing and not self.splits
        if self._checkpointing:
            checkpoint_layers(model.base_model, model)

    def log_probs(self, batch: TokenBatch) -> Tensor:
        """[batch, time], 0 in the padding."""
        known = batch.known(self)
        return self.from_logits(self._logits(batch), batch) if known is None else known

    def from_logits(self, logits: Tensor, batch: TokenBatch) -> Tensor:
        return batch.padded(token_log_probs(logits, batch.targets, self.temperature))

    def _logits(self, batch: TokenBatch) -> Tensor:
        if self._states is not None:
            return self.model.get_output_embeddings()(
                self._states(batch.ids, batch.predictors, batch.lengths)
            )
        with checkpointed(self.model.base_model, self._checkpointing):
            return whole_logits(self.model, batch)


def whole_logits(model: PreTrainedModel, batch: TokenBatch) -> Tensor:
    """Logits [tokens, vocabulary] of the response tokens by the model's own forward pass."""
    width = batch.ids.shape[1]
    kept = last(width - batch.first, batch.ids.device)
    logits: Tensor = model(input_ids=batch.ids, use_cache=False, logits_to_keep=kept).logits
    return logits[batch.predictors // width, batch.predictors % width - batch.first]


class CriticPass:
    """A value per response token: the reward model's score head on each position's hidden state."""

    def __init__(self, model: PreTrainedModel, checkpointing: bool = False) -> None:
        head = getattr(model, "score", None)
        if not isinstance(head, nn.Linear) or head.out_features != 1:
            raise InputError(
                "the critic has no linear score head with one output",
                field="critic",
                fix="load it with AutoModelForSequenceClassification and num_labels=1",
            )
        self.model, self._head, self.states = model, head, BackboneStates(model, checkpointing)

    def values(self, batch: TokenBatch) -> Tensor:
        """[batch, time] float32: the value before each token is written; 0 in the padding."""
        known = batch.known(self)
        if known is not None:
            return known
        return self.from_states(self.states(batch.ids, batch.predictors, batch.lengths), batch)

    def from_states(self, states: Tensor, batch: TokenBatch) -> Tensor:
        return batch.padded(self._head(states)[:, 0].float())


def one_trunk(language_model: LanguageModelPass, critic: CriticPass) -> bool:
    """Whether policy and critic share theirs."""
    return critic.model.base_model is language_model.model.base_model


def log_probs_and_values(
    language_model: LanguageModelPass, critic: CriticPass, batch: TokenBatch
) -> tuple[Tensor, Tensor]:
    """Both, of a policy and a critic that share their trunk: it is passed once where the policy splits."""
    if not language_model.splits or language_model in batch.ahead:
        return language_model.log_probs(batch), critic.values(batch)
    states = critic.states(batch.ids, batch.predictors, batch.lengths)
    logits = language_model.model.get_output_embeddings()(states)
    return language_model.from_logits(logits, batch), critic.from_states(states, batch)
