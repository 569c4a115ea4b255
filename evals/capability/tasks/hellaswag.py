"""HellaSwag's validation split with lm-eval's own prompts and metrics.

Source: Zellers et al. 2019 (arXiv 1905.07830), MIT licence; as text, six lines an item: `LABEL: CONTEXT`,
the index of the right ending, four endings (klosax/hellaswag_text_data). Metrics: acc and acc_norm.

lm-eval capitalises the context's unfinished last sentence (`ctx_b`), which only the items from ActivityNet
have; this file does not mark it. It is found again as what follows the last sentence's end; WikiHow's
contexts ("How to ...") are whole. That gives the 3,243 ActivityNet items of the release.
"""

from __future__ import annotations

import bz2
import re
from pathlib import Path

from evals.capability.tasks.form import Document, Form, Released, TaskPart
from evals.values.errors import InputError

LINES = 6
SENTENCE_END = re.compile(r"[.?!][\"')]* ")


def read(name: str, path: Path) -> list[TaskPart]:
    lines = _lines(path)
    if not lines or len(lines) % LINES:
        fix = "give the released text file: six lines an item"
        raise InputError(f"has {len(lines)} lines, not a multiple of {LINES}", path=path, fix=fix)
    documents = [_document(path, lines, start) for start in range(0, len(lines), LINES)]
    # lm-eval would look for few-shot examples in a training split, which this release lacks.
    config = {"task": "hellaswag", "training_split": None}
    return [TaskPart(config, {"validation": documents}, tested="validation", builtin="hellaswag")]


def _lines(path: Path) -> list[str]:
    opener = bz2.open if path.suffix == ".bz2" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            return [str(line).rstrip("\n") for line in file]
    except (OSError, UnicodeDecodeError) as error:
        fix = "check the path, and that the file is text or bzip2"
        raise InputError(f"cannot be read ({error})", path=path, fix=fix) from None


def _document(path: Path, lines: list[str], start: int) -> Document:
    heading, label, *endings = lines[start : start + LINES]
    activity, colon, context = heading.partition(": ")
    if not colon or label not in ("0", "1", "2", "3") or not all(endings):
        problem = "the six lines are not 'LABEL: CONTEXT', an index from 0 to 3 and four endings"
        raise InputError(problem, path=path, line=start + 1, fix="mend or remove the item")
    before, unfinished = split_context(context)
    return {
        "activity_label": activity,
        "ctx_a": before,
        "ctx_b": unfinished,
        "endings": endings,
        "label": label,
    }


def split_context(context: str) -> tuple[str, str]:
    """(ctx_a, ctx_b): whole sentences, and the unfinished one after them ("" for WikiHow)."""
    ends = [match.end() for match in SENTENCE_END.finditer(context)]
    whole = context.startswith("How to") and not context[-1].isalnum()
    if whole or not ends:
        return context, ""
    return context[: ends[-1] - 1], context[ends[-1] :]


TASKS = {
    "hellaswag": Released(
        Form(read), ("hellaswag/hellaswag_val_full.txt.bz2", "hellaswag/hellaswag_val_full.txt")
    )
}
