"""The reward model as a term of the reward: a one-output sequence classifier, its scores normalised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.models.chat import ResponseEncoder
from evals.models.load import context_length, prompt_token_ids
from evals.values.conversation import Response
from evals.values.errors import InputError
from trainers.devices.sharding import is_sharded
from trainers.models.frozen_layers import begin_alike
from trainers.models.selected_states import BackboneStates
from trainers.reward.kinds import REWARD_MODEL
from trainers.reward.reward import Breakdown


class RewardModelTerm:
    """(score - mean) / scale, the score that of a one-output sequence classifier.

    The classifier reads the prompt in the chat template, the response, and EOS where the response
    finished. Responses are scored in batches of like length, padded on the right: a score does not
    depend on the batch. Too long a conversation and a score that is not finite are unscored.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        mean: float = 0.0,
        scale: float = 1.0,
        batch_size: int = 32,
    ) -> None:
        if not np.isfinite(mean) or not np.isfinite(scale) or scale <= 0.0:
            raise InputError(
                f"the reward model's normalisation is mean {mean}, scale {scale}",
                field="reward_model",
                fix="give a finite mean and a positive scale",
            )
        self.model, self.tokenizer = model.eval(), tokenizer
        self.mean, self.scale, self.batch_size = mean, scale, batch_size
        # Transformers finds the last token by the padding id of the model's own configuration.
        model.config.pad_token_id = tokenizer.pad_token_id
        self._encode = ResponseEncoder(tokenizer)
        self._backbone: BackboneStates | None = None

    def begin_as(self, policy: PreTrainedModel, rows: int) -> int:
        """Share the policy's frozen layers where the model begins with the same ones; how many, 0 where it does not.

        What they make of the last `rows` responses serves the policy's passes too. Scores are the same.
        """
        shared = begin_alike(policy, self.model, rows)
        if shared:
            self._backbone = BackboneStates(self.model, frozen=shared)
        return shared

    def __call__(self, responses: Sequence[Response]) -> Breakdown:
        raw = self.scores(responses)
        total = (raw - self.mean) / self.scale
        reasons = {row: self._reason(responses[row]) for row in np.flatnonzero(np.isnan(total)).tolist()}
        return Breakdown(total, {REWARD_MODEL: total}, {}, reasons)

    def scores(self, responses: Sequence[Response]) -> np.ndarray:
        """Scores before normalisation, float64 [responses]; NaN is unscored."""
        rows = self._token_ids(responses)
        limit = context_length(self.model)
        fitting = [i for i in range(len(rows)) if len(rows[i]) <= limit]
        fitting.sort(key=lambda i: len(rows[i]))
        scores = np.full(len(rows), np.nan)
        for start in range(0, len(fitting), self.batch_size):
            batch = fitting[start : start + self.batch_size]
            scores[batch] = self._forward([rows[i] for i in batch])
        scores[~np.isfinite(scores)] = np.nan
        return scores

    def normalised(self, responses: Sequence[Response], *, unit_scale: bool = False) -> RewardModelTerm:
        """The same term with the mean of `responses` subtracted and, on request, scaled to unit deviation."""
        scores = self.scores(responses)
        scores = scores[np.isfinite(scores)]
        if not len(scores):
            raise InputError(
                "the reward model scored no response", fix="check the model and the prompts' length"
            )
        scale = float(scores.std()) if unit_scale else 1.0
        return RewardModelTerm(self.model, self.tokenizer, float(scores.mean()), scale, self.batch_size)

    def _token_ids(self, responses: Sequence[Response]) -> list[list[int]]:
        texts = self._encode([r.text for r in responses], [r.finished for r in responses])
        prompts = {r.prompt: prompt_token_ids(self.tokenizer, r.prompt.messages) for r in responses}
        return [prompts[response.prompt] + text for response, text in zip(responses, texts, strict=True)]

    def _forward(self, rows: list[list[int]]) -> np.ndarray:
        width, pad = max(len(row) for row in rows), self._padding(rows)
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
        lengths = torch.tensor([len(row) for row in rows])
        ids, lengths = ids.to(self.model.device), lengths.to(self.model.device)
        with torch.no_grad():
            return self._last_scores(ids, lengths).double().cpu().numpy()

    def _padding(self, rows: list[list[int]]) -> int:
        """PAD, or a token that is in no row where PAD is in one, as it is where EOS is PAD.

        Transformers scores the last token that is not padding: a row's end would be taken for padding.
        """
        used, pad = set().union(*rows), int(self.tokenizer.pad_token_id)
        if pad in used:
            pad = next(token for token in range(len(used) + 1) if token not in used)
        self.model.config.pad_token_id = pad
        return pad

    def _last_scores(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """The score at each row's last token, of ids [batch, width] padded on the right."""
        width = ids.shape[1]
        states = self._states()
        if states is None:
            mask = torch.arange(width, device=ids.device) < lengths[:, None]
            return self.model(input_ids=ids, attention_mask=mask.long()).logits[:, 0]
        last = torch.arange(len(ids), device=ids.device) * width + lengths - 1
        return self.model.score(states(ids, last, lengths))[:, 0]

    def _states(self) -> BackboneStates | None:
        """Only what the last tokens need, where the model is known to have nothing else."""
        if is_sharded(self.model):
            return None
        if self._backbone is None:
            self._backbone = BackboneStates(self.model)
        return self._backbone if self._backbone.selects or self._backbone.frozen else None

    def _reason(self, response: Response) -> str:
        length, limit = len(self._token_ids([response])[0]), context_length(self.model)
        if length > limit:
            return f"{length} tokens, the reward model reads {limit}"
        return "the reward model's score is not finite"
