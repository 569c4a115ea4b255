"""What the encoder grader sees of a response.

Token states, pooled in several middle layers, which keep wording that the last ones give up for topic;
word n-grams of the response, of its opening and of its ending; and the prompt's response type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.graders import Progress
from evals.models.legible import legible
from evals.models.untrusted import ContentEncoder
from evals.values.conversation import Response, ResponseType
from evals.values.errors import InputError

READING = 2  # raised when the same text is read otherwise: grades of another reading are another grader's
WORDS = r"[\w']+|[?!]"


@dataclass(frozen=True)
class EncoderFeatures:
    """What the head sees. `layers` count from 1; scales weigh the three blocks of features."""

    layers: tuple[int, ...]
    max_tokens: int = 256
    prompt_tokens: int = 40  # kept for the prompt's end however long the response is
    state_scale: float = 1.0
    word_scale: float = 2.0
    end_scale: float = 1.0
    end_length: int = 150  # characters of the opening, and of the ending
    type_scale: float = 0.3
    most_ngrams: int = 10_000  # of a view, the commonest; thousands of responses have far more


class WordViews:
    """Weights (tf-idf) of word 1-, 2- and 3-grams in the whole response, its opening and its ending."""

    def __init__(self, counters: dict[str, TfidfVectorizer]) -> None:
        self._counters = counters

    @classmethod
    def fit(cls, texts: Sequence[str], features: EncoderFeatures) -> WordViews:
        """Keep the commonest n-grams that two responses have. Raises InputError where no two share a word."""
        views = _views(texts, features)
        try:
            counters = {name: _counter(min_df=2, max_features=features.most_ngrams) for name in views}
            return cls({name: counters[name].fit(view) for name, view in views.items()})
        except ValueError:  # no vocabulary is left
            raise InputError(
                f"no two of the {len(texts)} responses share a word; an encoder cannot be fitted to them",
                fix="give more responses",
            ) from None

    @classmethod
    def of(cls, vocabularies: dict[str, dict[str, int]], arrays: dict[str, np.ndarray]) -> WordViews:
        counters = {name: _counter(vocabulary=vocabulary) for name, vocabulary in vocabularies.items()}
        for name, counter in counters.items():
            counter.idf_ = arrays[f"idf_{name}"]
        return cls(counters)

    def transform(self, texts: Sequence[str], features: EncoderFeatures) -> np.ndarray:
        """[responses, n-grams of all views], each view scaled."""
        scales = {"whole": features.word_scale}
        return np.concatenate(
            [
                scales.get(name, features.end_scale) * self._counters[name].transform(view).toarray()
                for name, view in _views(texts, features).items()
            ],
            axis=1,
        )

    def vocabularies(self) -> dict[str, dict[str, int]]:
        return {
            name: {word: int(column) for word, column in sorted(counter.vocabulary_.items())}
            for name, counter in self._counters.items()
        }

    def weights(self) -> dict[str, np.ndarray]:
        return {f"idf_{name}": counter.idf_ for name, counter in self._counters.items()}


def _views(texts: Sequence[str], features: EncoderFeatures) -> dict[str, list[str]]:
    length = features.end_length
    texts = [legible(text) for text in texts]
    return {
        "whole": texts,
        "opening": [text[:length] for text in texts],
        "ending": [text[-length:] for text in texts],
    }


def _counter(**options: Any) -> TfidfVectorizer:
    return TfidfVectorizer(ngram_range=(1, 3), sublinear_tf=True, token_pattern=WORDS, **options)


def stack_blocks(
    features: EncoderFeatures, states: np.ndarray, words: np.ndarray, responses: Sequence[Response]
) -> np.ndarray:
    """The head's inputs [responses, features]: scaled states, words, response type."""
    kinds = [r.prompt.response_type for r in responses]
    types = [[float(t is not None and t.like is one) for one in ResponseType] for t in kinds]
    return np.concatenate(
        [features.state_scale * states, words, features.type_scale * np.array(types, dtype=np.float64)],
        axis=1,
    )


def token_states(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    features: EncoderFeatures,
    responses: Sequence[Response],
    batch_tokens: int = 4096,
    progress: Progress | None = None,
) -> np.ndarray:
    """Pooled states [responses, states]: the response's mean, highest and lowest, the prompt's mean, by layer.

    `progress` is told the number of responses after each batch.
    """
    inputs = _inputs(tokenizer, features, responses)
    order = sorted(range(len(inputs)), key=lambda i: len(inputs[i][0]))
    pooled: list[np.ndarray] = [np.empty(0)] * len(inputs)
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * len(inputs[order[stop]][0]) <= batch_tokens:
            stop += 1
        rows = order[start:stop]
        for row, values in zip(rows, _pool(model, features, [inputs[i] for i in rows]), strict=True):
            pooled[row] = values
        if progress is not None:
            progress(len(rows))
        start = stop
    return np.stack(pooled)


def _inputs(
    tokenizer: PreTrainedTokenizerBase, features: EncoderFeatures, responses: Sequence[Response]
) -> list[tuple[list[int], list[int]]]:
    """Token ids, and 0 for the prompt's or 1 for the response's, of `[CLS] type. prompt [SEP] response [SEP]`."""
    encode = ContentEncoder(tokenizer)
    kinds = [r.prompt.response_type for r in responses]
    types = encode([f"{kind.value.replace('_', ' ')}." if kind else "" for kind in kinds])
    prompts, texts = (
        encode([legible(text) for text in side])
        for side in ([r.prompt.text for r in responses], [r.text for r in responses])
    )
    first, last = _ends(tokenizer)
    rows = []
    for kind, prompt, text in zip(types, prompts, texts, strict=True):
        text = text[: features.max_tokens - features.prompt_tokens]
        room = max(features.max_tokens - 3 - len(text) - len(kind), 1)
        before = [first, *kind, *prompt[-room:], last]
        rows.append(([*before, *text, last], [0] * len(before) + [1] * (len(text) + 1)))
    return rows


def _ends(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    first = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    last = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    if first is None or last is None:
        raise InputError(
            "the encoder's tokenizer has no CLS or SEP token",
            field="grader",
            fix="use an encoder (BERT or like it)",
        )
    return first, last


@torch.inference_mode()
def _pool(
    model: PreTrainedModel, features: EncoderFeatures, batch: Sequence[tuple[list[int], list[int]]]
) -> np.ndarray:
    width = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([i + [0] * (width - len(i)) for i, _ in batch], device=model.device)
    owners = torch.tensor([o + [-1] * (width - len(o)) for _, o in batch], device=model.device)
    states = model(
        input_ids=ids, attention_mask=(owners >= 0).long(), output_hidden_states=True
    ).hidden_states
    response, prompt = (owners == 1)[..., None], (owners == 0)[..., None]
    pooled = []
    for layer in features.layers:
        h = states[layer].float()
        pooled += [
            (h * response).sum(1) / response.sum(1),
            h.masked_fill(~response, -torch.inf).amax(1),
            h.masked_fill(~response, torch.inf).amin(1),
            (h * prompt).sum(1) / prompt.sum(1),
        ]
    return torch.cat(pooled, dim=1).double().cpu().numpy()
