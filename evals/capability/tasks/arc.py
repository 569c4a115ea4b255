"""ARC with lm-eval's own prompts and metrics: easy and challenge.

Source: Clark et al. 2018 (arXiv 1803.05457), CC BY-SA; the released `ARC-Challenge-Test.jsonl` and
`ARC-Easy-Test.jsonl`: `{"id", "question": {"stem", "choices": [{"text", "label"}, ...]}, "answerKey"}`. Metrics: acc
and acc_norm.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from evals.capability.tasks.form import Document, Form, Released, TaskPart, id_field
from evals.values.jsonl_rows import Row, read_jsonl


def _read_arc(name: str, path: Path, *, task: str) -> list[TaskPart]:
    seen: dict[str, int] = {}
    documents = read_jsonl(path, lambda row: _arc_document(row, seen))
    # lm-eval would look for few-shot examples in other splits, which this file lacks.
    config = {"task": task, "training_split": None, "validation_split": None}
    return [TaskPart(config, {"test": documents}, builtin="arc")]


def _arc_document(row: Row, seen: dict[str, int]) -> Document:
    question, key = row.get("question", dict), row.get("answerKey", str)
    stem, choices = question.get("stem"), question.get("choices")
    if not isinstance(stem, str) or not stem.strip() or not isinstance(choices, list):
        raise row.error("question", "has no stem or no choices", "give the released file")
    pairs = [(c.get("text"), c.get("label")) for c in choices if isinstance(c, dict)]
    texts, labels = [text for text, _ in pairs], [label for _, label in pairs]
    if len(pairs) < 2 or not all(isinstance(part, str) and part for pair in pairs for part in pair):
        raise row.error("question", "has a choice without text or label", "give the released file")
    if labels.count(key) != 1:
        raise row.error("answerKey", f"{key!r} is not the label of one choice", "give the released file")
    return {
        "id": id_field(row, seen),
        "question": stem,
        "choices": {"text": texts, "label": labels},
        "answerKey": key,
    }


TASKS = {
    f"arc_{kind.lower()}": Released(
        Form(partial(_read_arc, task=f"arc_{kind.lower()}")),
        (f"arc/ARC-{kind}-Test.jsonl", f"arc/ARC-{kind}/ARC-{kind}-Test.jsonl"),
    )
    for kind in ("Easy", "Challenge")
}
