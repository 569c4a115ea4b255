"""Fit the encoder grader's head: one logistic regression per proposition, to the optimum.

Labels come from people, or from another grader (distillation: its probabilities are the labels).
The problem is convex, so there is no seed, no schedule and no early stopping.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.graders import Progress
from evals.graders.calibration import measures, prompt_folds
from evals.graders.encoder import (
    UNLEARNED,
    EncoderGrader,
    EncoderHead,
    encoder_depth,
    load_encoder,
    load_encoder_tokenizer,
)
from evals.graders.encoder_features import EncoderFeatures, WordViews, stack_blocks, token_states
from evals.rules.propositions import Proposition
from evals.values.conversation import Response
from evals.values.errors import InputError
from evals.values.grades import Grades
from trainers.supervised.encoder_config import CANDIDATES, EncoderFitConfig


@dataclass(frozen=True)
class EncodedResponses:
    """Responses as an encoder sees them: what every fit on them starts from. `states` [responses, states]."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    features: EncoderFeatures
    responses: Sequence[Response]
    states: np.ndarray

    @classmethod
    def by(
        cls, path: str, responses: Sequence[Response], max_tokens: int, progress: Progress | None = None
    ) -> EncodedResponses:
        """By the encoder at `path` (a folder or hub name), cut to the layers that are used.

        `progress` is told the number of responses after each batch.
        """
        model, features = cut_encoder(path, max_tokens)
        tokenizer = load_encoder_tokenizer(path)
        states = token_states(model, tokenizer, features, responses, progress=progress)
        return cls(model, tokenizer, features, list(responses), states)


def cut_encoder(path: str, max_tokens: int) -> tuple[PreTrainedModel, EncoderFeatures]:
    """The encoder up to two thirds of its depth, pooled from one third on: layers 2 to 4 of 6."""
    depth = encoder_depth(path)
    layers = tuple(range(max(depth // 3, 1), max(2 * depth // 3, 1) + 1))
    model = load_encoder(path, layers=layers[-1])
    room = int(getattr(model.config, "max_position_embeddings", max_tokens))
    return model, EncoderFeatures(layers, max_tokens=min(max_tokens, room))


@dataclass(frozen=True)
class _Design:
    """The head's inputs [all responses, features], scaled and counted by what some rows hold."""

    inputs: np.ndarray
    words: WordViews
    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, encoded: EncodedResponses, rows: np.ndarray) -> _Design:
        features, states = encoded.features, encoded.states
        texts = [r.text for r in encoded.responses]
        words = WordViews.fit([texts[i] for i in rows.tolist()], features)
        mean, deviation = states[rows].mean(0), states[rows].std(0) + 1e-6
        scaled = (states - mean) / deviation / np.sqrt(states.shape[1])
        inputs = stack_blocks(features, scaled, words.transform(texts, features), encoded.responses)
        return cls(inputs, words, mean, deviation)


def fit_head(
    encoded: EncodedResponses,
    labels: np.ndarray,
    propositions: Sequence[str],
    config: EncoderFitConfig,
    name: str = "encoder",
    rows: np.ndarray | None = None,
) -> EncoderGrader:
    """Fit the head to labels [responses, propositions] in 0..1, NaN where there is none; to `rows` if given.

    A proposition that has no label at all gets no output: its grades are unscored, not 0.5. With
    `config.choose` the settings come from folds of the same rows' prompts; with `config.average` the head
    is the mean of those of all CANDIDATES, which depends on no choice.
    """
    rows = np.arange(len(labels)) if rows is None else rows
    if not np.isfinite(labels[rows]).any():
        raise InputError(
            "no response has a label of the rulebook's propositions", fix="give labelled responses"
        )
    if config.choose:
        config = choose_settings(encoded, labels, config, rows)
    design = _Design.of(encoded, rows)
    fit = averaged_regressions if config.average else logistic_regressions
    # A copy of all rows would double what thousands of responses take.
    inputs = design.inputs if len(rows) == len(labels) else design.inputs[rows]
    weight, bias = fit(inputs, labels[rows], config)
    bias = np.where(np.isfinite(labels[rows]).any(axis=0), bias, np.nan)
    arrays = {"weight": weight, "bias": bias, "mean": design.mean, "deviation": design.deviation}
    head = EncoderHead(tuple(propositions), design.words, arrays)
    return EncoderGrader(encoded.model, encoded.tokenizer, encoded.features, head, name)


def choose_settings(
    encoded: EncodedResponses,
    labels: np.ndarray,
    config: EncoderFitConfig,
    rows: np.ndarray,
    folds: int = 5,
    seed: int = 0,
) -> EncoderFitConfig:
    """The CANDIDATES with the highest mean of accuracy and balanced accuracy, out of fold by prompt in `rows`.

    Labels outside `rows` are not looked at, so that a grader chosen in this way can be judged on them.
    """
    fold = prompt_folds([encoded.responses[i].prompt.id for i in rows.tolist()], folds, seed)
    logits = {candidate: np.full(labels[rows].shape, np.nan) for candidate in product(*CANDIDATES)}
    for number in range(folds):
        seen, unseen = rows[fold != number], rows[fold == number]
        design = _Design.of(encoded, seen)
        for l2, balance, shift in logits:
            settings = replace(config, l2=l2, balance=balance, prior_shift=0.0, choose=False)
            if shift == CANDIDATES[-1][0]:  # the shift is added to one and the same fit
                weight, bias = logistic_regressions(design.inputs[seen], labels[seen], settings)
                found = design.inputs[unseen] @ weight + bias
                odds = _log_odds(labels[seen])
            logits[l2, balance, shift][fold == number] = found - shift * odds
    scores = {candidate: _mean_accuracies(values, labels[rows]) for candidate, values in logits.items()}
    l2, balance, shift = max(scores, key=lambda candidate: scores[candidate])
    return replace(config, l2=l2, balance=balance, prior_shift=shift, choose=False)


def _mean_accuracies(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of accuracy and balanced accuracy, each over the propositions where it is defined."""
    grades = 1 / (1 + np.exp(-np.clip(logits, -700, 700)))
    accuracy, balanced = [], []
    for column in range(labels.shape[1]):
        known = np.isfinite(labels[:, column])
        values = measures(
            grades[known, column], labels[known, column] >= 0.5, 0.5, np.ones((1, int(known.sum())))
        )
        accuracy.append(values["accuracy"][0])
        balanced.append(values["balanced_accuracy"][0])
    return float(np.nanmean(accuracy) + np.nanmean(balanced)) / 2


class CrossFittedGrader:
    """Grades each response by a head that saw none of its prompt's labels.

    For responses to the prompts that it was fitted on; raises InputError for another prompt.
    """

    def __init__(
        self, graders: Sequence[EncoderGrader], fold_of: dict[str, int], name: str = "encoder"
    ) -> None:
        self.name = name
        self._graders = list(graders)
        self._fold_of = fold_of

    @property
    def identity(self) -> str:
        """A digest of the heads and of the fold of each prompt."""
        parts = ([grader.identity for grader in self._graders], sorted(self._fold_of.items()))
        return f"{self.name}:{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"

    def grade(self, responses: Sequence[Response], propositions: Sequence[Proposition]) -> Grades:
        """Grades [responses, propositions]."""
        folds = np.array([self._fold(response.prompt.id) for response in responses], dtype=int)
        order: list[int] = []
        parts = [self._graders[0].grade([], propositions)]
        for fold, grader in enumerate(self._graders):
            rows = np.flatnonzero(folds == fold).tolist()
            order += rows
            parts.append(grader.grade([responses[i] for i in rows], propositions))
        return Grades.concatenate(parts).rows(np.argsort(order).tolist())

    def grade_encoded(self, encoded: EncodedResponses) -> Grades:
        """Grades [responses, propositions of the heads] of responses that are encoded already."""
        folds = np.array([self._fold(response.prompt.id) for response in encoded.responses], dtype=int)
        propositions = self._graders[0].head.propositions
        probability = np.empty((len(folds), len(propositions)))
        for fold, grader in enumerate(self._graders):
            rows = np.flatnonzero(folds == fold)
            if len(rows):
                chosen = [encoded.responses[i] for i in rows.tolist()]
                probability[rows] = grader.probabilities(encoded.states[rows], chosen)
        unscored = np.argwhere(np.isnan(probability)).tolist()
        return Grades(propositions, probability, {(row, column): UNLEARNED for row, column in unscored})

    def _fold(self, prompt: str) -> int:
        if prompt not in self._fold_of:
            raise InputError(
                f"prompt {prompt!r} was not among those that the grader was fitted on",
                field="grader",
                fix="fit on all labels for other prompts",
            )
        return self._fold_of[prompt]


def cross_fit(
    encoded: EncodedResponses,
    labels: np.ndarray,
    propositions: Sequence[str],
    config: EncoderFitConfig,
    folds: int = 5,
    seed: int = 0,
    name: str = "encoder",
    progress: Progress | None = None,
) -> CrossFittedGrader:
    """One head a fold of the prompts, fitted to the labels [responses, propositions] of the other folds.

    `progress` is told of each head. Raises InputError for responses to one prompt only.
    """
    ids = [response.prompt.id for response in encoded.responses]
    if len(set(ids)) < 2:
        raise InputError(
            f"the {len(ids)} responses to fit an encoder on have one prompt; it is judged on other prompts",
            fix="give responses to more prompts",
        )
    fold = prompt_folds(ids, folds, seed)
    graders = []
    for number in range(folds):
        rows = np.flatnonzero(fold != number)
        graders.append(fit_head(encoded, labels, propositions, config, name, rows))
        if progress is not None:
            progress(1)
    return CrossFittedGrader(graders, dict(zip(ids, fold.tolist(), strict=True)), name)


def logistic_regressions(
    inputs: np.ndarray, labels: np.ndarray, config: EncoderFitConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [features, propositions] and biases [propositions] of the least penalised cross-entropy.

    Per proposition: sum over responses of the weighted cross-entropy + l2 / 2 |w|^2, the bias free.
    With more features than responses it is solved in the span of the responses, which holds the optimum.
    """
    (fit,) = _regressions(inputs, labels, [config])
    return fit


def _regressions(
    inputs: np.ndarray, labels: np.ndarray, configs: Iterable[EncoderFitConfig]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What `logistic_regressions` gives for each of the settings; the span is found once for all of them."""
    reduced, back = _span(inputs)
    for config in configs:
        weight, bias = _optimum(reduced, labels, config)
        yield back @ weight, bias


def _optimum(
    reduced: np.ndarray, labels: np.ndarray, config: EncoderFitConfig
) -> tuple[np.ndarray, np.ndarray]:
    """As `logistic_regressions`, the weights in the coordinates of `reduced`."""
    x, y = torch.from_numpy(reduced), torch.from_numpy(np.nan_to_num(labels))
    known = torch.from_numpy(np.isfinite(labels)).double()
    prevalence = _prevalence(y, known)
    cost = known * (
        y * (0.5 / prevalence) ** config.balance + (1 - y) * (0.5 / (1 - prevalence)) ** config.balance
    )
    # Weighted as above, the answer that needs no features is the weighted share of true labels.
    start = torch.logit(((cost * y).sum(0) + 1e-3) / (cost.sum(0) + 2e-3))
    weight = torch.zeros(x.shape[1], y.shape[1], dtype=torch.float64, requires_grad=True)
    bias = start.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=config.iterations, history_size=20, line_search_fn="strong_wolfe"
    )

    def objective() -> torch.Tensor:
        optimizer.zero_grad()
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(x @ weight + bias, y, reduction="none")
        loss = (entropy * cost).sum() + 0.5 * config.l2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(objective)
    shift = config.prior_shift * torch.logit(prevalence)
    return weight.detach().numpy(), (bias.detach() - shift).numpy()


def averaged_regressions(
    inputs: np.ndarray, labels: np.ndarray, config: EncoderFitConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Means over CANDIDATES of what `logistic_regressions` gives: the head whose logit is the mean of theirs."""
    strengths, balances, shifts = CANDIDATES
    settings = [
        replace(config, l2=l2, balance=balance, prior_shift=float(np.mean(shifts)))
        for l2, balance in product(strengths, balances)
    ]
    fits = list(_regressions(inputs, labels, settings))
    return np.mean([weight for weight, _ in fits], axis=0), np.mean([bias for _, bias in fits], axis=0)


def _log_odds(labels: np.ndarray) -> np.ndarray:
    """Of the prevalence of each proposition [propositions]."""
    known = torch.from_numpy(np.isfinite(labels)).double()
    return torch.logit(_prevalence(torch.from_numpy(np.nan_to_num(labels)), known)).numpy()


def _prevalence(y: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Share of true labels, half a label away from 0 and 1."""
    n = known.sum(0).clamp(min=1)
    return ((y * known).sum(0) / n).maximum(0.5 / n).minimum(1 - 0.5 / n)


def _span(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the rows in the space they span, and the way back: rows = coordinates @ back.T."""
    if inputs.shape[0] >= inputs.shape[1]:
        return inputs, np.eye(inputs.shape[1])
    values, vectors = np.linalg.eigh(inputs @ inputs.T)
    kept = values > 1e-10 * values[-1]
    roots = np.sqrt(values[kept])
    return vectors[:, kept] * roots, inputs.T @ (vectors[:, kept] / roots)
