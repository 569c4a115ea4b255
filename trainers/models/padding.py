"""A padding token that training can use, for models whose PAD is missing, ends a turn, or is beyond the embedding.

Padding is masked in every loss, so a PAD that is EOS takes the end of the turn out of what is learnt: the model
never stops (arXiv 2403.17031). Nothing is added to the model: PAD becomes a token that it has and that its texts do
not use.
"""

from __future__ import annotations

import re
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.models.chat import turn_end_id
from evals.values.errors import InputError

PAD = "<|pad|>"
MEANT = re.compile(r"pad", re.IGNORECASE)
SPARE = re.compile(
    r"reserved|unused|extra|dummy|fim|repo|file|jupyter|issue|image|vision|video", re.IGNORECASE
)


def give_padding(
    tokenizer: PreTrainedTokenizerBase, embedding_rows: int, stops: frozenset[int] = frozenset()
) -> str:
    """Give the tokenizer, in place, a PAD of its own below `embedding_rows`; returns a line to say, or "".

    `stops` are token ids that end a response, beside EOS and the template's end of a turn. Raises InputError
    without EOS.
    """
    if tokenizer.eos_token_id is None:
        problem = "the tokenizer has no EOS token"
        raise InputError(problem, field="model.path", fix="set eos_token in tokenizer_config.json")
    taken = stops | {int(tokenizer.eos_token_id), turn_end_id(tokenizer)}
    now = tokenizer.pad_token_id
    if now is not None and now not in taken and now < embedding_rows:
        return ""
    was = "no PAD token" if now is None else f"as PAD {tokenizer.pad_token!r}"
    why = (
        "" if now is None else ", which ends its turns" if now in taken else ", which it has no embedding of"
    )
    tokenizer.pad_token = _unused(tokenizer, embedding_rows, taken)
    return f"the model has {was}{why}: {tokenizer.pad_token!r} (id {tokenizer.pad_token_id}) pads in training"


def rows_of_embedding(model: PreTrainedModel) -> int:
    embedding: Any = model.get_input_embeddings()
    return int(embedding.weight.shape[0])


def stops_of(model: PreTrainedModel) -> frozenset[int]:
    """Ids that the model's own generation settings stop at."""
    settings = model.generation_config
    ends = getattr(settings, "eos_token_id", None)
    return frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])


def with_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The model, its configuration naming the tokenizer's PAD: classifiers find their last token by it."""
    model.config.pad_token_id = tokenizer.pad_token_id
    if model.generation_config is not None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def _unused(tokenizer: PreTrainedTokenizerBase, rows: int, taken: frozenset[int]) -> str:
    """A control token that is meant for padding or is spare, a new one in an empty row, or the rarest piece."""
    template = str(tokenizer.chat_template or "")
    added = {
        token: index
        for token, index in sorted(tokenizer.get_added_vocab().items(), key=lambda pair: pair[1])
        if index < rows and index not in {*taken, tokenizer.bos_token_id} and token not in template
    }
    for is_right in (MEANT.search, SPARE.search):
        if found := next((token for token in added if is_right(token)), None):
            return found
    used = {index for index in tokenizer.get_vocab().values()}
    if len(tokenizer) < rows and not used & set(range(len(tokenizer), rows)):
        tokenizer.add_special_tokens({"pad_token": PAD})
        return PAD
    if added:
        return next(iter(added))
    # Pieces are learnt in the order of how often they occur: the last one is hardly ever written.
    pieces = {i: token for token, i in tokenizer.get_vocab().items() if i < rows and i not in taken}
    return pieces[max(i for i in pieces if i != tokenizer.bos_token_id)]
