"""Anthropic's human preferences: transcripts with a chosen and a rejected last reply.

Source: anthropics/hh-rlhf (Bai et al., 2022, arXiv 2204.05862): `harmless-base_test.jsonl.gz` as released,
`helpful_test_reconstructed.jsonl.gz` put back in the annotators' order from cassidylaidlaw/hidden-context.
`rbrbench fetch` fetches the one and makes the other.
Licence: MIT. Both are Anthropic's *test* splits: after training on them no accuracy on HH may be reported.

A row is `{"chosen": "\\n\\nHuman: ...\\n\\nAssistant: ...", "rejected": ...}`; the helpful file leaves out
the leading line breaks. Turns of one speaker in a row (a reply that itself contains "Assistant:") are one
message. Rows that are well formed but useless are dropped and counted: an empty message or reply, or
two equal replies.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path

from evals.values.conversation import Comparison, Message, Prompt
from evals.values.errors import InputError
from evals.values.jsonl_rows import Row, read_jsonl
from harness.worlds.sources.sample import sample

FILES = {
    "helpful": "hh-rlhf/helpful_test_reconstructed.jsonl.gz",
    "harmless": "hh-rlhf/harmless-base_test.jsonl.gz",
}
# Rows of both halves, in which `label` says whether the two replies changed places.
RELABELLED = ("hidden-context/helpful_test.jsonl.gz", "hidden-context/harmless_test.jsonl.gz")
ROLES = {"Human": "user", "Assistant": "assistant"}
_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")


def load(
    root: Path, half: str, *, limit: int | None = None, seed: int = 0, dropped: Counter[str] | None = None
) -> list[Comparison]:
    """Comparisons of one half, `helpful` or `harmless`; `dropped` counts the rows left out, by reason.

    Raises InputError, naming file, line and field, for text that is no transcript, and for a pair whose
    conversations differ before the last reply.
    """
    if half not in FILES:
        raise InputError(f"unknown half {half!r}", fix=f"use {' or '.join(FILES)}")
    counts: Counter[str] = Counter() if dropped is None else dropped
    parsed = read_jsonl(root / FILES[half], lambda row: _comparison(row, half))
    kept = [item for item in parsed if isinstance(item, Comparison)]
    counts.update(f"hh-rlhf {half}: {item}" for item in parsed if isinstance(item, str))
    return sample(kept, limit, seed)


def in_the_annotators_order(root: Path) -> bytes:
    """The helpful half's file, gzipped, from hidden-context's: the same rows give the same bytes.

    Each of its files has rows of both halves, some with their replies exchanged: where `label` is not
    `original_label`. Raises InputError for rows without these fields.
    """
    rows = [row for file in RELABELLED for row in read_jsonl(root / file, _restored) if row]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    return gzip.compress(text.encode(), mtime=0)


def _restored(row: Row) -> dict[str, str] | None:
    if row.get("data_subset", str) != "helpful":
        return None
    chosen, rejected = row.get("chosen", str), row.get("rejected", str)
    exchanged = row.get("original_label", int) != row.get("label", int)
    return {"chosen": rejected, "rejected": chosen} if exchanged else {"chosen": chosen, "rejected": rejected}


def parse_transcript(row: Row, field: str) -> tuple[Message, ...]:
    """Messages of one transcript, from the user's first to the assistant's last, strictly alternating."""
    text = row.get(field, str)
    parts = _TURN.split(text)
    if len(parts) < 3 or parts[0].strip():
        raise row.error(
            field, "is not a transcript of turns", "start it with 'Human: ' after two line breaks"
        )
    messages: list[Message] = []
    for speaker, content in zip(parts[1::2], parts[2::2], strict=True):
        role, content = ROLES[speaker], content.strip()
        if messages and messages[-1].role == role:
            content = f"{messages.pop().content}\n\n{content}".strip()
        messages.append(Message(role, content))
    if messages[0].role != "user":
        raise row.error(field, "does not start with the human's turn", "start it with 'Human: '")
    if messages[-1].role != "assistant":
        raise row.error(field, "does not end with the assistant's turn", "end it with 'Assistant: ...'")
    return tuple(messages)


def _comparison(row: Row, half: str) -> Comparison | str:
    """The comparison, or the reason why the row is dropped."""
    chosen, rejected = parse_transcript(row, "chosen"), parse_transcript(row, "rejected")
    if chosen[:-1] != rejected[:-1]:
        raise row.error(
            "rejected", "its conversation differs from that of 'chosen'", "pair replies to one prompt"
        )
    if not all(message.content for message in (*chosen, *rejected)):
        return "an empty message"
    if chosen == rejected:
        return "two equal replies"
    prompt = Prompt(f"hh-{half}-{row.line}", chosen[:-1], category=half)
    return Comparison(prompt, chosen[-1].content, rejected[-1].content)
