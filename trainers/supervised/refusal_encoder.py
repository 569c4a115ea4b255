"""Fit the refusal judge to people's labels, and choose its settings without the model that it will judge.

The regression is convex: no seed, no schedule. Settings (sentences read, penalty) are chosen by leaving one
labelled model out after another; a judge of a model sees neither its responses nor their labels, when it is
fitted and when its settings are chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.graders.encoder import load_encoder_tokenizer
from evals.judges.card import agreement
from evals.judges.refusal_encoder import (
    EncoderJudge,
    RefusalFeatures,
    head_inputs,
    mean_over_sentences,
    sentence_states,
    text_digest,
)
from evals.values.errors import InputError
from trainers.supervised.encoder_config import EncoderFitConfig
from trainers.supervised.encoder_grader import cut_encoder, logistic_regressions

SENTENCES = (2, 3, 4)
PENALTIES = (0.03, 0.1, 0.3)


@dataclass(frozen=True)
class RefusalFit:
    """One setting: how many sentences are read, and the penalty (l2) on scaled states."""

    sentences: int = 3
    l2: float = 0.1


GRID = tuple(RefusalFit(sentences, l2) for sentences, l2 in product(SENTENCES, PENALTIES))


@dataclass(frozen=True)
class LabelledOpenings:
    """One model's responses as the judge sees them: texts, states [texts, sentences, states], refusals [texts]."""

    texts: tuple[str, ...]
    states: np.ndarray
    refused: np.ndarray


class RefusalTrainer:
    """An encoder with its tokenizer, cut at two thirds of its depth, that labelled responses are shown to."""

    def __init__(self, path: str) -> None:
        self.model: PreTrainedModel
        self.model, cut = cut_encoder(path, max_tokens=256)
        self.tokenizer: PreTrainedTokenizerBase = load_encoder_tokenizer(path)
        self.features = RefusalFeatures(cut.layers, sentences=max(SENTENCES))
        # What was fitted to choose settings, by setting and models: of three models each pair needs the same fits.
        self._fitted: dict[
            tuple[RefusalFit, tuple[int, ...]], tuple[EncoderJudge, list[LabelledOpenings]]
        ] = {}

    def encode(self, texts: Sequence[str], refused: Sequence[bool]) -> LabelledOpenings:
        states = sentence_states(self.model, self.tokenizer, self.features, texts)
        return LabelledOpenings(tuple(texts), states, np.array(refused, dtype=bool))

    def fit(
        self, models: Sequence[LabelledOpenings], fit: RefusalFit = RefusalFit(), name: str = "encoder"
    ) -> EncoderJudge:
        """A judge from the labels of `models`. Raises InputError when they hold one kind of response only."""
        refused = np.concatenate([model.refused for model in models]) if models else np.zeros(0, dtype=bool)
        if not refused.any() or refused.all():
            raise InputError(
                "the labels hold no refusal, or nothing else", fix="give labelled responses of both kinds"
            )
        features = replace(self.features, sentences=fit.sentences)
        texts = [text for model in models for text in model.texts]
        states = np.concatenate([model.states for model in models])
        pooled = mean_over_sentences(states, fit.sentences)
        arrays = {"mean": pooled.mean(0), "deviation": pooled.std(0) + 1e-6}
        inputs = head_inputs(states, texts, features, arrays["mean"], arrays["deviation"])
        config = EncoderFitConfig(l2=fit.l2, balance=1.0, prior_shift=0.0)
        weight, bias = logistic_regressions(inputs, refused[:, None].astype(np.float64), config)
        arrays |= {"weight": weight[:, 0], "bias": bias}
        return EncoderJudge(self.model, self.tokenizer, features, arrays, name, map(text_digest, texts))

    def choose(self, models: Sequence[LabelledOpenings], grid: Sequence[RefusalFit] = GRID) -> RefusalFit:
        """The setting with the best balanced accuracy, averaged over models each left out of the fit once.

        Of equals the one nearest the default. With one model there is nothing to leave out: the default.
        """
        if len(models) < 2:
            return RefusalFit()
        scores = [self._left_out_score(models, fit) for fit in grid]
        best = max(np.round(scores, 3))
        near = [fit for fit, score in zip(grid, np.round(scores, 3), strict=True) if score == best]
        return min(near, key=lambda f: (abs(f.sentences - 3), abs(np.log(f.l2 / RefusalFit().l2)), f.l2))

    def _fit_once(self, models: list[LabelledOpenings], fit: RefusalFit) -> EncoderJudge:
        key = (fit, tuple(map(id, models)))
        if key not in self._fitted:
            self._fitted[key] = self.fit(models, fit), models  # kept, so that no other takes their ids
        return self._fitted[key][0]

    def _left_out_score(self, models: Sequence[LabelledOpenings], fit: RefusalFit) -> float:
        scores = []
        for out, model in enumerate(models):
            judge = self._fit_once([*models[:out], *models[out + 1 :]], fit)
            found = judge.probabilities(model.texts, model.states) > 0.5
            scores.append(agreement(model.refused.tolist(), found.tolist()).balanced_accuracy)
        return float(np.mean(scores))


def leave_one_model_out(
    trainer: RefusalTrainer, models: Mapping[str, LabelledOpenings], name: str = "encoder"
) -> dict[str, tuple[EncoderJudge, RefusalFit]]:
    """{model: the judge for it}, fitted, settings included, to the other models alone.

    Raises InputError for a single model.
    """
    if len(models) < 2:
        raise InputError(
            "leaving one model out needs labelled responses of two models or more", fix="add a model"
        )
    judges = {}
    for left_out in models:
        others = [model for key, model in models.items() if key != left_out]
        fit = trainer.choose(others)
        judges[left_out] = trainer.fit(others, fit, name), fit
    return judges
