"""The reward of a response, and its breakdown: R = R_rm + R_rbr on safety prompts, R_rm elsewhere.

A term that could not score a response gives NaN and the reason; the total is then NaN too. Nothing
unscored becomes 0, and the caller decides what to do with such a response.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from evals.graders import Grader
from evals.graders.own_questions import asked_together, question_scores
from evals.rules.features import CLASS_PREFIX, QUESTIONS, Features, feature_names, features
from evals.rules.rulebook import Rulebook
from evals.values.conversation import Response, ResponseType, types_in_order
from evals.values.errors import InputError
from trainers.reward.kinds import REWARD_MODEL, RULE_BASED
from trainers.reward.reward_weights import RewardWeights, check_weights

if TYPE_CHECKING:  # only the reward model needs torch: rules on recorded grades start in a second
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from trainers.models.selected_states import BackboneStates

Expect = Callable[[Sequence[Response]], None]


@dataclass(frozen=True)
class Breakdown:
    """A batch of rewards, taken apart. Every array is [responses].

    `total` is NaN exactly where `reasons` says why. `terms` sum to the total. `contributions` of the
    rule-based term, weight times feature by feature name, are NaN where a feature does not apply to
    the response's type or is unscored.
    """

    total: np.ndarray
    terms: dict[str, np.ndarray]
    contributions: dict[str, np.ndarray] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.total)


class Reward(Protocol):
    """Anything that pays: responses to a breakdown, NaN and a reason where it can not."""

    def __call__(self, responses: Sequence[Response]) -> Breakdown: ...


def terms_of(reward: Reward) -> Sequence[Reward]:
    """What a reward is the sum of; itself, where it does not say."""
    terms: Sequence[Reward] = getattr(reward, "terms", (reward,))
    return terms


def answered(responses: Sequence[Response]) -> list[Response]:
    """Those with an answer: a thought that never ended has none."""
    return [response for response in responses if not response.unanswered]


def pay(reward: Reward, responses: Sequence[Response]) -> Breakdown:
    """The reward of each answer; a response without one is unscored for its own reason, and nobody is asked of it."""
    rows = [row for row, response in enumerate(responses) if not response.unanswered]
    if len(rows) == len(responses):
        return reward(responses)
    part = reward([responses[row] for row in rows]) if rows else Breakdown(np.zeros(0), {})

    def spread(values: np.ndarray) -> np.ndarray:
        whole = np.full(len(responses), np.nan)
        whole[rows] = values
        return whole

    reasons = {row: r.unanswered for row, r in enumerate(responses) if r.unanswered}
    reasons |= {rows[place]: why for place, why in part.reasons.items()}
    return Breakdown(
        spread(part.total),
        {name: spread(values) for name, values in part.terms.items()},
        {name: spread(values) for name, values in part.contributions.items()},
        dict(sorted(reasons.items())),
    )


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
        from evals.models.chat import ResponseEncoder

        self._encode = ResponseEncoder(tokenizer)
        self._backbone: BackboneStates | None = None

    def begin_as(self, policy: PreTrainedModel, rows: int) -> int:
        """Share the policy's frozen layers where the model begins with the same ones; how many, 0 where it does not.

        What they make of the last `rows` responses serves the policy's passes too. Scores are the same.
        """
        from trainers.models.frozen_layers import begin_alike
        from trainers.models.selected_states import BackboneStates

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
        from evals.models.load import context_length

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
        from evals.models.load import prompt_token_ids

        texts = self._encode([r.text for r in responses], [r.finished for r in responses])
        prompts = {r.prompt: prompt_token_ids(self.tokenizer, r.prompt.messages) for r in responses}
        return [prompts[response.prompt] + text for response, text in zip(responses, texts, strict=True)]

    def _forward(self, rows: list[list[int]]) -> np.ndarray:
        import torch

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
        import torch

        width = ids.shape[1]
        states = self._states()
        if states is None:
            mask = torch.arange(width, device=ids.device) < lengths[:, None]
            return self.model(input_ids=ids, attention_mask=mask.long()).logits[:, 0]
        last = torch.arange(len(ids), device=ids.device) * width + lengths - 1
        return self.model.score(states(ids, last, lengths))[:, 0]

    def _states(self) -> BackboneStates | None:
        """Only what the last tokens need, where the model is known to have nothing else."""
        from trainers.devices.sharding import is_sharded
        from trainers.models.selected_states import BackboneStates

        if is_sharded(self.model):
            return None
        if self._backbone is None:
            self._backbone = BackboneStates(self.model)
        return self._backbone if self._backbone.selects or self._backbone.frozen else None

    def _reason(self, response: Response) -> str:
        from evals.models.load import context_length

        length, limit = len(self._token_ids([response])[0]), context_length(self.model)
        if length > limit:
            return f"{length} tokens, the reward model reads {limit}"
        return "the reward model's score is not finite"


class RuleBasedTerm:
    """sum_i w_i phi_i with the weights of the response's type; 0 on prompts without a response type.

    Only what the type's weights use is graded, the questions that a prompt brings along with it. Raises InputError
    when the weights belong to another rulebook, or lack a response type that is asked for.
    """

    def __init__(self, rulebook: Rulebook, grader: Grader, weights: RewardWeights) -> None:
        check_weights(weights, rulebook)
        self.rulebook, self.grader, self.weights = rulebook, grader, weights
        self.expect = self._expect if getattr(grader, "expect", None) is not None else None

    def _expect(self, responses: Sequence[Response]) -> None:
        """The grader may begin with what it will be asked."""
        for response_type, rows in _rows_by_type(responses).items():
            asked = [self.rulebook.propositions[name] for name in self.used_propositions(response_type)]
            some = [responses[row] for row in rows]
            self.grader.expect(some, asked)  # type: ignore[attr-defined]
            for group in asked_together(some) if self._asks(response_type) else ():
                own = [some[row] for row in group.rows]
                self.grader.expect(own, group.propositions)  # type: ignore[attr-defined]

    def _asks(self, response_type: ResponseType) -> bool:
        """Whether the prompts' own questions are paid."""
        return response_type in self.rulebook.prompt_questions and self.weights.uses(response_type, QUESTIONS)

    def __call__(self, responses: Sequence[Response]) -> Breakdown:
        total = np.zeros(len(responses))
        contributions: dict[str, np.ndarray] = {}
        reasons: dict[int, str] = {}
        for response_type, rows in _rows_by_type(responses).items():
            part = self._features(response_type, [responses[row] for row in rows])
            weighted = self.weights.contributions(response_type, part)
            total[rows] = weighted.sum(axis=1)
            for column, name in enumerate(part.names):
                contributions.setdefault(name, np.full(len(responses), np.nan))[rows] = weighted[:, column]
            reasons |= {rows[row]: why for row, why in part.reasons.items()}
        return Breakdown(total, {RULE_BASED: total}, contributions, dict(sorted(reasons.items())))

    def used_propositions(self, response_type: ResponseType) -> tuple[str, ...]:
        """Propositions whose own weight is not 0; all of the type's as soon as one class weight is not."""
        names = self.rulebook.propositions_for(response_type)
        classes = (n for n in feature_names(self.rulebook, response_type) if n.startswith(CLASS_PREFIX))
        if any(self.weights.uses(response_type, name) for name in classes):
            return names
        return tuple(name for name in names if self.weights.uses(response_type, name))

    def paying_grades(self, responses: Sequence[Response]) -> dict[str, np.ndarray]:
        """P(true) by proposition [responses]; NaN where it is unscored, or pays nothing on the response's type."""
        found: dict[str, np.ndarray] = {}
        for response_type, rows in _rows_by_type(responses).items():
            if response_type not in self.weights.response_types:
                continue
            names = self.used_propositions(response_type)
            asked = [self.rulebook.propositions[name] for name in names]
            grades = self.grader.grade([responses[row] for row in rows], asked)
            for column, name in enumerate(names):
                of_name = found.setdefault(name, np.full(len(responses), np.nan))
                of_name[rows] = grades.probability[:, column]
        return found

    def _features(self, response_type: ResponseType, responses: Sequence[Response]) -> Features:
        names = self.used_propositions(response_type)
        grades = self.grader.grade(responses, [self.rulebook.propositions[name] for name in names])
        own = question_scores(self.grader, responses) if self._asks(response_type) else None
        if names == self.rulebook.propositions_for(response_type):
            return features(self.rulebook, response_type, grades, own)
        values = grades.probability.copy()
        reasons: dict[int, str] = {}
        for (row, column), why in sorted(grades.reasons.items()):
            reasons.setdefault(row, f"{names[column]}: {why}")
        if own is not None:
            names, values = (*names, QUESTIONS), np.column_stack([values, own.values])
            reasons = dict(sorted((own.reasons | reasons).items()))
        values[sorted(reasons)] = np.nan
        return Features(names, values, reasons)


class SumOfTerms:
    """The sum of several terms; unscored where any of them is. `seconds`: of its last call, by term.

    `expect`, None where no term waits for others, is told of responses that will be paid for soon: a server is asked
    meanwhile. It changes no number.
    """

    def __init__(self, terms: Sequence[Reward]) -> None:
        if not terms:
            raise InputError(
                "the reward has no term", field="reward", fix="name a reward model or a rulebook"
            )
        self.terms = tuple(terms)
        self.seconds: dict[str, float] = {}
        expecting = [expect for term in self.terms if (expect := getattr(term, "expect", None)) is not None]
        self.expect = partial(_tell_all, expecting) if expecting else None

    def __call__(self, responses: Sequence[Response]) -> Breakdown:
        parts, self.seconds = [], {}
        for term in self.terms:
            start = time.perf_counter()
            parts.append(term(responses))
            self.seconds |= dict.fromkeys(parts[-1].terms, time.perf_counter() - start)
        total = np.sum([part.total for part in parts], axis=0)
        terms: dict[str, np.ndarray] = {}
        contributions: dict[str, np.ndarray] = {}
        reasons: dict[int, str] = {}
        for part in parts:
            if shared := terms.keys() & part.terms.keys():
                raise InputError(
                    f"the term '{min(shared)}' is given twice", field="reward", fix="name it once"
                )
            terms |= part.terms
            contributions |= part.contributions
            for row, why in part.reasons.items():
                named = f"{next(iter(part.terms))}: {why}"
                reasons[row] = f"{reasons[row]}; {named}" if row in reasons else named
        return Breakdown(total, terms, contributions, dict(sorted(reasons.items())))

    def paying_grades(self, responses: Sequence[Response]) -> dict[str, np.ndarray]:
        """What the terms that have rules grade."""
        found: dict[str, np.ndarray] = {}
        for term in self.terms:
            found |= paying_grades(term, responses)
        return found


def paying_grades(reward: Reward, responses: Sequence[Response]) -> dict[str, np.ndarray]:
    """P(true) of the propositions that `reward` pays for, as its own grader grades them; none of one without rules."""
    ask: Callable[[Sequence[Response]], dict[str, np.ndarray]] | None = getattr(reward, "paying_grades", None)
    return {} if ask is None else ask(responses)


def _tell_all(expecting: Sequence[Expect], responses: Sequence[Response]) -> None:
    for expect in expecting:
        expect(responses)


def _rows_by_type(responses: Sequence[Response]) -> dict[ResponseType, list[int]]:
    groups: dict[ResponseType, list[int]] = {}
    for row, response in enumerate(responses):
        if response.prompt.response_type is not None:
            groups.setdefault(response.prompt.response_type, []).append(row)
    return {t: groups[t] for t in types_in_order(groups)}
