"""Random models of a few thousand weights and tokenizers of a few words, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

Model = TypeVar("Model", bound=PreTrainedModel)

SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
PAD, BOS, EOS = 0, 1, 2
CHAT_MARKS = ("<user>", "<assistant>")
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def numbered_words(count: int) -> list[str]:
    return [f"w{i}" for i in range(count)]


def make_tokenizer(
    words: Iterable[str],
    template: str | None = None,
    *,
    special: Mapping[str, str] = SPECIAL,
    marks: Iterable[str] = (),
    split: pre_tokenizers.PreTokenizer | None = None,
    lower: bool = False,
    **names: str | None,
) -> PreTrainedTokenizerFast:
    """One token a word: ids count through `special`, then `marks` (special too), then `words`.

    `split` cuts a text into words (at white space where it is not given); `names` are special tokens by
    another word than `special` has, as pad_token="<eos>".
    """
    given = {**special, **names}
    vocabulary = dict.fromkeys([*special.values(), *marks, *words])
    ids = {word: number for number, word in enumerate(vocabulary)}
    core = Tokenizer(models.WordLevel(ids, unk_token=given.get("unk_token") or next(iter(ids))))
    if lower:
        core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = split or pre_tokenizers.WhitespaceSplit()
    extra = {"additional_special_tokens": list(marks)} if marks else {}
    return PreTrainedTokenizerFast(tokenizer_object=core, chat_template=template, **given, **extra)


def random_model(
    kind: type[Model], vocabulary: int | PreTrainedTokenizerBase, seed: int = 0, **settings: Any
) -> Model:
    """Any of transformers' classes with random weights, ready to evaluate: two layers of width 32.

    `vocabulary` is a tokenizer, whose special tokens are the model's, or a size, with PAD, BOS and EOS first.
    `settings` are of the configuration, by Llama's names in every family.
    """
    if isinstance(vocabulary, int):
        size, special = vocabulary, {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
    else:
        names = ("pad_token_id", "bos_token_id", "eos_token_id")
        size, special = len(vocabulary), {name: getattr(vocabulary, name) for name in names}
    torch.manual_seed(seed)
    config = kind.config_class(vocab_size=size, **(SIZES | special | settings))
    return kind(config).eval()
