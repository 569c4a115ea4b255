"""A conversation with its response as tokens: the one form that SFT, reward models and scoring share.

A response follows the generation prompt, as it does when it is sampled, and ends with the token that ends a
turn in the model's own template. Templates differ from what a sampled conversation looks like: ChatML writes
a line break after the end of a turn, Qwen3's inserts an empty thought, and the end of a turn need not be the
tokenizer's EOS. A model that was trained on one form and scored on another gives numbers of no meaning.
"""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from evals.models.untrusted import ContentEncoder, control_tokens

_SLOT = "\u2039response\u203a"


def turn_end_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends a response: the first control token that the template writes after a turn.

    EOS where there is no template, or it writes none there.
    """
    eos = int(tokenizer.eos_token_id)
    after = _after_turn(tokenizer)
    if not after:
        return eos
    controls = {eos, *control_tokens(tokenizer).values()}
    ids = tokenizer(after, add_special_tokens=False, verbose=False)["input_ids"]
    return next((int(i) for i in ids if i in controls), eos)


def _after_turn(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the template writes after an assistant's turn, the last one; "" without a template."""
    if not tokenizer.chat_template:
        return ""
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _SLOT}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except TemplateError:  # it knows no such turns: nothing can be learnt from it
        return ""
    return text.rpartition(_SLOT)[2] if _SLOT in text else ""


class ResponseEncoder:
    """Token ids of responses, to be put behind `prompt_token_ids` of their prompts."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._content, self.end = ContentEncoder(tokenizer), turn_end_id(tokenizer)

    def __call__(self, texts: Sequence[str], finished: Sequence[bool] | None = None) -> list[list[int]]:
        """Each text's tokens, markers broken, and the end of its turn unless it was cut (`finished` False)."""
        ends = [True] * len(texts) if finished is None else finished
        return [
            ids + ([self.end] if ended else []) for ids, ended in zip(self._content(texts), ends, strict=True)
        ]
