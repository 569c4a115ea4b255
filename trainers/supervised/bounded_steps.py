"""Training steps whose memory is bounded: a batch goes through the model in parts of like length.

A batch's rows are sorted by length and taken together up to a number of tokens; each part's gradient is
added to the others', so that the step is that of the whole batch, within rounding. Padding beyond a part's
longest row is not computed, and neither are vocabulary logits where nothing is learned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, logsigmoid
from transformers import PreTrainedModel, Trainer
from trl import RewardTrainer, SFTTrainer

from trainers.models.selected_states import BackboneStates, is_backbone_and_head

CHUNK = 256  # tokens whose logits exist at once
IGNORED = -100  # the label of a token that is not learned


def parts_by_length(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Rows in parts of at most `tokens`, counted with padding; a row that is longer is a part of its own."""
    parts: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if parts and lengths[parts[-1][0]] * (len(parts[-1]) + 1) <= tokens:
            parts[-1].append(row)
        else:
            parts.append([row])
    return parts


def plain_model(model: Any) -> PreTrainedModel:
    """The model under its adapters, which it computes with."""
    plain: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    return cast(PreTrainedModel, plain)


class _InParts(Trainer):
    """A step whose batch goes through the model in parts, at most `tokens_at_once` in each."""

    tokens_at_once = 0
    passes: Any = None  # how a part goes through; made at the first step, by `pass_of` the plain model
    pass_of: Callable[[PreTrainedModel], Any]

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        model.train()
        inputs = self._prepare_inputs(inputs)
        if self.passes is None:
            self.passes = self.pass_of(plain_model(self.model))
        return self.add_gradients(inputs)

    def add_gradients(self, inputs: Mapping[str, Any]) -> Tensor:
        raise NotImplementedError


class CompletionPass:
    """The loss of what a completion's tokens are predicted by, whose logits are never there all at once."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        training = model.training
        model.eval()  # dropout would make the two ways differ
        self._states = BackboneStates(model) if is_backbone_and_head(model) else None
        model.train(training)

    def add_gradient(self, ids: Tensor, labels: Tensor, weight: float) -> Tensor:
        """`weight` times the summed loss of rows [rows, width], detached; adds its gradient to the weights."""
        learned = labels[:, 1:] != IGNORED
        targets = labels[:, 1:][learned]
        if not len(targets):
            return torch.zeros((), device=ids.device)
        if self._states is None:
            logits = self.model(input_ids=ids, use_cache=False).logits[:, :-1][learned]
            loss = weight * cross_entropy(logits.float(), targets, reduction="sum")
            loss.backward()
            return loss.detach()
        places = torch.nn.functional.pad(learned, (0, 1)).flatten().nonzero().squeeze(1)
        return self._through_head(self._states(ids, places), targets, weight)

    def _through_head(self, states: Tensor, targets: Tensor, weight: float) -> Tensor:
        """Each chunk goes back to its states before the next one's logits are computed."""
        head, total = self.model.get_output_embeddings(), torch.zeros((), device=states.device)
        gradients = []
        for chunk, wanted in zip(states.detach().split(CHUNK), targets.split(CHUNK), strict=True):
            chunk.requires_grad_()
            loss = weight * cross_entropy(head(chunk).float(), wanted, reduction="sum")
            loss.backward()
            gradients.append(chunk.grad)
            total += loss.detach()
        states.backward(torch.cat(gradients))
        return total


class BoundedSFTTrainer(_InParts, SFTTrainer):
    """TRL's, with at most `tokens_at_once` in the model; PAD must be on the right."""

    pass_of = staticmethod(CompletionPass)

    def add_gradients(self, inputs: Mapping[str, Any]) -> Tensor:
        """The batch's mean loss (nats a learned token); its gradient is in the weights."""
        ids, labels, mask = (inputs[name] for name in ("input_ids", "labels", "attention_mask"))
        count = max(int((labels[:, 1:] != IGNORED).sum()), 1)
        lengths = mask.sum(1).tolist()
        total = torch.zeros((), device=ids.device)
        for rows in parts_by_length(lengths, self.tokens_at_once):
            width = lengths[rows[0]]
            with self.compute_loss_context_manager():
                total += self.passes.add_gradient(ids[rows, :width], labels[rows, :width], 1 / count)
        return total


class RewardPass:
    """A reward a row: the score of the state at its last token that is not PAD."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model, self._states = model, BackboneStates(model)
        training = model.training
        model.eval()
        probe = torch.arange(min(4, model.config.get_text_config().vocab_size), device=model.device)[None]
        with torch.no_grad():
            whole = model(input_ids=probe).logits[:, 0]
            self._splits = hasattr(model, "score") and torch.allclose(self._scores(probe), whole, atol=1e-4)
        model.train(training)

    def __call__(self, ids: Tensor) -> Tensor:
        """Rewards [rows] of `ids` [rows, width], padded on the right."""
        if self._splits:
            return self._scores(ids)
        mask = torch.arange(ids.shape[1], device=ids.device) <= self._last(ids)[:, None]
        return self.model(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits[:, 0]

    def _scores(self, ids: Tensor) -> Tensor:
        rows = torch.arange(len(ids), device=ids.device)
        score: Any = self.model.score
        return score(self._states(ids, rows * ids.shape[1] + self._last(ids)))[:, 0]

    def _last(self, ids: Tensor) -> Tensor:
        """As transformers' classifiers find it: the rightmost that is not PAD."""
        columns = torch.arange(ids.shape[1], device=ids.device)
        return (columns * (ids != self.model.config.pad_token_id)).argmax(1)


class BoundedRewardTrainer(_InParts, RewardTrainer):
    """TRL's, with at most `tokens_at_once` in the model, or one comparison."""

    pass_of = staticmethod(RewardPass)

    def add_gradients(self, inputs: Mapping[str, Any]) -> Tensor:
        """The batch's mean loss (nats a comparison); its gradient is in the weights."""
        ids, lengths = inputs["input_ids"], inputs["attention_mask"].sum(1)
        better, worse = lengths.chunk(2)
        longest = torch.maximum(better, worse).tolist()
        total = torch.zeros((), device=ids.device)
        for rows in parts_by_length(longest, self.tokens_at_once // 2):
            both = rows + [row + len(longest) for row in rows]
            with self.compute_loss_context_manager():
                loss = self._loss(self.passes(ids[both, : longest[rows[0]]])) / len(longest)
            loss.backward()
            total += loss.detach()
        return total

    def _loss(self, rewards: Tensor) -> Tensor:
        """Summed over comparisons (Bradley-Terry), with what pulls their mean to zero."""
        better, worse = rewards.float().chunk(2)
        loss = -logsigmoid(better - worse).sum()
        settings: Any = self.args
        centre = settings.center_rewards_coefficient
        return loss if centre is None else loss + centre * (better + worse).square().sum()
