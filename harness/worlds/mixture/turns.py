"""Conversations as rows hold them: messages, also written as JSON, a transcript or one text; what a reply follows."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from evals.values.conversation import Message
from evals.values.json_text import parse_json
from evals.values.jsonl_rows import Row
from harness.worlds.sources.hh_rlhf import parse_transcript

TRANSCRIPT = ("Human:", "\n\nHuman:")
BY_THE_ASSISTANT = ("Assistant:", "\n\nAssistant:")  # a transcript, where a turn of the human's follows
ROLES = ("system", "user", "assistant")
# How programs write a list of messages into one cell of a table: JSON, or Python's own.
IN_A_CELL = re.compile(r"""\s*\[\s*\{\s*(["'])(role|content)\1\s*:.*\]\s*""", re.DOTALL)
UNSEEN = ("Cc", "Cf", "Zl", "Zp", "Zs")  # Unicode's categories of what leaves no mark


def messages_in(row: Row, column: str) -> tuple[Message, ...]:
    """The cell's messages in an order that a template takes; a plain text is the user's. Raises InputError."""
    value = row.values[column]
    if isinstance(value, str) and _is_transcript(value):
        return parse_transcript(row, column)
    if not isinstance(value, str | list):
        said = f"is {type(value).__name__}, neither a text nor a list of messages"
        raise row.error(column, said, "write it as a text")
    if isinstance(value, str) and (found := IN_A_CELL.fullmatch(value)):
        row = replace(row, values={**row.values, column: _unpacked(row, column, value, found[1])})
    messages = row.messages(column)
    if unknown := next((m.role for m in messages if m.role not in ROLES), None):
        raise row.error(column, f"has a turn of {unknown[:40]!r}", f"use the roles {', '.join(ROLES)}")
    _check_order(row, column, messages)
    return messages


def _is_transcript(text: str) -> bool:
    return text.startswith(TRANSCRIPT) or (text.startswith(BY_THE_ASSISTANT) and TRANSCRIPT[1] in text)


def is_empty(text: str) -> bool:
    """Whether nothing of it can be seen: spaces, controls and characters without width alone."""
    return all(unicodedata.category(character) in UNSEEN for character in text)


class _Marks(dict[int, str]):
    """For `str.translate`: one kind of space and of line break, nothing for what leaves no mark."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kind = unicodedata.category(character)
        breaks = "\n" if kind in ("Zl", "Zp") or character == "\n" else character if character == "\t" else ""
        self[code] = " " if kind == "Zs" else breaks if kind in UNSEEN else character
        return self[code]


_MARKS = _Marks()


def looks(text: str) -> str:
    """What a reader sees of it: two texts that look alike differ in nothing that a comparison may teach."""
    return unicodedata.normalize("NFC", text).translate(_MARKS).strip()


def asked(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Without the turn that a transcript's end, `Assistant:`, leaves for the reply."""
    return messages[:-1] if messages[-1].role == "assistant" and is_empty(messages[-1].content) else messages


def context_of(
    row: Row, column: str, prompt: tuple[Message, ...], whole: tuple[Message, ...]
) -> tuple[Message, ...]:
    """What the reply that `whole` ends with follows: `prompt`, or a conversation that begins with it.

    Raises InputError where the turns before the reply are another conversation.
    """
    turns, before = _spoken(prompt), _spoken(whole[:-1])
    if not before:
        return prompt
    if [_said(m) for m in before[: len(turns)]] != [_said(m) for m in turns]:
        fix = "give the replies alone, or name the conversations only: leave the prompt's column out"
        raise row.error(column, "holds another conversation than the prompt", fix)
    system = prompt[: len(prompt) - len(turns)] or whole[: len(whole) - 1 - len(before)]
    return (*system, *before)


def _spoken(messages: Sequence[Message]) -> tuple[Message, ...]:
    return tuple(message for message in messages if message.role != "system")


def _said(message: Message) -> tuple[str, str]:
    return message.role, message.content.strip()


def _unpacked(row: Row, column: str, text: str, quote: str) -> object:
    """The list that a cell holds as text. Raises InputError for Python's way to write one, and for broken JSON."""
    fix = "write it as JSON, with json.dumps, or give the file as JSONL"
    if quote == "'":
        raise row.error(column, "is a list of messages as Python shows it", fix)
    try:
        return parse_json(text)
    except ValueError:
        raise row.error(column, "is a list of messages in malformed JSON", fix) from None


def _check_order(row: Row, column: str, messages: Sequence[Message]) -> None:
    """Raises InputError for turns in an order that a model's template may refuse, or that say nothing of a reply."""
    for before, after in pairwise(messages):
        if after.role == "system":
            fix = "put it at the head of the conversation, or say skip_bad: true"
            raise row.error(column, "has a system turn that is not the first", fix)
        if before.role == after.role:
            fix = "join them, remove the row, or say skip_bad: true"
            raise row.error(column, f"has two turns of the {after.role} in a row", fix)
