"""A conversation with its response as tokens: the one form that SFT, reward models and scoring share.

A response follows the generation prompt, as it does when it is sampled, and ends with the token that ends a
turn in the model's own template. Templates differ from what a sampled conversation looks like: ChatML writes
a line break after the end of a turn, Qwen3's inserts an empty thought, and the end of a turn need not be the
tokenizer's EOS. A model that was trained on one form and scored on another gives numbers of no meaning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from evals.models.thoughts import of_tokenizer
from evals.models.untrusted import ContentEncoder, control_tokens
from evals.values.conversation import Message
from evals.values.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SLOT = "\u2039response\u203a"


def chat_text(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, generation: bool = True
) -> str:
    """A conversation in the model's own chat template; with `generation`, up to where it answers.

    Some templates refuse two turns of one role, or a system turn too: Mistral's, Gemma's. What they refuse is
    written as one turn, and the system text at the head of the first user's turn, a blank line between.
    Raises jinja2's TemplateError for what is refused even so.
    """
    joined = _joined(messages)
    for turns in (messages, joined, without_system(joined)):
        try:
            return _rendered(tokenizer, turns, generation)
        except TemplateError as error:
            refused = error
    raise refused


def _rendered(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Message], generation: bool) -> str:
    """By the template. One of a model that reads images too (Llama Guard 3 1B, 4) may know content in parts alone, and
    writes nothing of a text: it is given a part of text then.
    """

    def render(rows: list[dict[str, Any]]) -> str:
        return str(tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=generation))

    text = render([{"role": m.role, "content": m.content} for m in turns])
    last = turns[-1].content.strip() if turns else ""
    if not last or last in text:
        return text
    try:
        of_parts = render([{"role": m.role, "content": [{"type": "text", "text": m.content}]} for m in turns])
    except (TemplateError, TypeError):  # it adds up texts
        return text
    return of_parts if last in of_parts else text


def set_template_keys(tokenizer: PreTrainedTokenizerBase, keys: Mapping[str, Any], field: str) -> None:
    """Have the chat template know `keys`, such as `enable_thinking: false`, wherever it is rendered; in place.

    They become values that the template has by itself, so that they are saved with the tokenizer and whoever
    loads it writes the same text; keys that a call passes still count before them. Raises InputError, about
    `field`, for a key that the template does not name or a value that is no text, number or truth value, nor a mapping
    of them, such as Granite Guardian's `guardian_config: {criteria_id: harm}`.
    """
    if not keys:
        return
    template = tokenizer.chat_template
    if not isinstance(template, str):
        problem = "the model has no chat template" if not template else "the model has several chat templates"
        raise InputError(problem, field=field, fix="leave it out")
    set_keys = ""
    for key, value in keys.items():
        if not key.isidentifier() or not re.search(rf"\b{key}\b", template):
            problem = f"the model's chat template has no {key!r}"
            raise InputError(problem, field=field, fix="leave it out, or write a key that the template names")
        set_keys += (
            f"{{%- if {key} is not defined %}}{{%- set {key} = {_literal(value, field)} %}}{{%- endif %}}"
        )
    tokenizer.chat_template = f"{set_keys}{{{{- '' }}}}{template}"


def _literal(value: Any, field: str) -> str:
    """A value in Jinja's grammar."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        inner = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{inner}"'
    if isinstance(value, Mapping):
        pairs = (f"{_literal(key, field)}: {_literal(of, field)}" for key, of in value.items())
        return f"{{{', '.join(pairs)}}}"
    fix = "give a text, a number, true, false or null, or a mapping of them"
    raise InputError(f"has a value {value!r}", field=field, fix=fix)


def _joined(messages: Sequence[Message]) -> list[Message]:
    """Turns of one role that follow each other as one."""
    return [
        Message(role, "\n\n".join(message.content for message in turns))
        for role, turns in groupby(messages, key=lambda message: message.role)
    ]


def without_system(messages: Sequence[Message]) -> list[Message]:
    """A leading system text at the head of the user's turn that follows it, a blank line between."""
    match messages:
        case [Message(role="system"), Message(role="user"), *_]:
            first = Message("user", f"{messages[0].content}\n\n{messages[1].content}")
            return [first, *messages[2:]]
    return list(messages)


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
    """Token ids of responses, to be put behind `prompt_token_ids` of their prompts.

    Where the template opens a thought for the model, the answer stands behind an empty one, as Qwen3's own template
    writes it: what no thought came with is not read as one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._content, self.end = ContentEncoder(tokenizer), turn_end_id(tokenizer)
        opened = of_tokenizer(tokenizer).opened
        closed = f"\n{opened[1]}\n\n" if opened else ""
        self._start = list(tokenizer(closed, add_special_tokens=False)["input_ids"]) if closed else []

    def __call__(self, texts: Sequence[str], finished: Sequence[bool] | None = None) -> list[list[int]]:
        """Each text's tokens, markers broken, and the end of its turn unless it was cut (`finished` False)."""
        ends = [True] * len(texts) if finished is None else finished
        return [
            [*self._start, *ids, *([self.end] if ended else [])]
            for ids, ended in zip(self._content(texts), ends, strict=True)
        ]
