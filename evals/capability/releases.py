"""Released files with lm-eval's own prompts and metrics, a page of code each: ARC, GPQA, LAMBADA, TruthfulQA."""

from __future__ import annotations

import hashlib
import random
from functools import partial
from pathlib import Path
from typing import Any

from evals.capability.form import Document, Form, TaskPart, id_field, text_field
from evals.values.csv_rows import filled, read_csv
from evals.values.errors import InputError
from evals.values.json_text import read_json
from evals.values.jsonl_rows import Row, read_jsonl

# ARC with lm-eval's own prompts and metrics: easy and challenge.
#
# Source: Clark et al. 2018 (arXiv 1803.05457), CC BY-SA; the released `ARC-Challenge-Test.jsonl` and
# `ARC-Easy-Test.jsonl`: `{"id", "question": {"stem", "choices": [{"text", "label"}, ...]}, "answerKey"}`. Metrics: acc
# and acc_norm.


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


ARC_EASY, ARC_CHALLENGE = (Form(partial(_read_arc, task=f"arc_{kind}")) for kind in ("easy", "challenge"))


# GPQA with lm-eval's own zero-shot prompts and metrics: main and diamond.
#
# Source: Rein et al. 2023 (arXiv 2311.12022), CC BY 4.0; the released `gpqa_main.csv` and `gpqa_diamond.csv`. Its
# authors ask that the questions be shown nowhere: no message here holds one. Metrics: acc and acc_norm. The choices
# stand in an order drawn by the question itself, the same for every model and run; lm-eval draws it anew in each
# process, with Python's global generator, so its accuracy on the same items differs by that order.

QUESTION, RIGHT = "Question", "Correct Answer"
WRONG = tuple(f"Incorrect Answer {number}" for number in (1, 2, 3))
LETTERS = "ABCD"


def _read_gpqa(name: str, path: Path, *, task: str) -> list[TaskPart]:
    rows = read_csv(path, (QUESTION, RIGHT, *WRONG), quote_header=False)
    documents = [_gpqa_document(row) for row in rows]
    # lm-eval's own shuffle is left out: the documents are in the form that it makes.
    config = {"task": task, "process_docs": None, "training_split": None}
    return [TaskPart(config, {"train": documents}, tested="train", builtin="gpqa/zeroshot")]


def _gpqa_document(row: Row) -> Document:
    question = filled(row, QUESTION)
    answers = [preprocess(filled(row, column)) for column in (*WRONG, RIGHT)]
    right = answers[-1]
    random.Random(hashlib.sha256(question.encode()).hexdigest()).shuffle(answers)
    choices = {f"choice{number}": text for number, text in enumerate(answers, start=1)}
    # lm-eval prompts with the question as it stands in the file, and takes the first of equal choices.
    return {QUESTION: row.values[QUESTION], **choices, "answer": f"({LETTERS[answers.index(right)]})"}


def preprocess(text: str) -> str:
    """As lm-eval's `gpqa/zeroshot/utils.py`."""
    return text.strip().replace(" [title]", ". ").replace("  ", " ")


GPQA_MAIN, GPQA_DIAMOND = (
    Form(partial(_read_gpqa, task=f"gpqa_{kind}_zeroshot")) for kind in ("main", "diamond")
)


# LAMBADA with lm-eval's own `lambada_openai` prompts and metrics.
#
# Source: OpenAI's version of LAMBADA (arXiv 1606.06031), `lambada_test.jsonl` with rows `text`, or the
# same passages split into `context, continuation` (llm-foundry, Apache-2.0). Metric: acc.


def _read_lambada(name: str, path: Path) -> list[TaskPart]:
    documents = read_jsonl(path, _lambada_document)
    return [TaskPart({"task": "lambada_openai"}, {"test": documents}, builtin="lambada")]


def _lambada_document(row: Row) -> Document:
    if "context" in row.values or "continuation" in row.values:
        return {"text": f"{text_field(row, 'context')} {text_field(row, 'continuation')}"}
    return {"text": text_field(row, "text")}


LAMBADA = Form(_read_lambada)


# TruthfulQA's multiple choice with lm-eval's own prompts and metrics: mc1 and mc2.
#
# Source: Lin et al. 2022 (arXiv 2109.07958), Apache-2.0; the released `mc_task.json`: a list of
# `{"question", "mc1_targets": {choice: 0 or 1}, "mc2_targets": {...}}`. The hub's 817 questions, which lm-eval
# takes, are the release's `data/v1`; a newer file of 790 is at its root. Metrics: acc of mc1 (the one right choice
# is likeliest) and of mc2 (probability of the right choices among all).

TARGETS = ("mc1_targets", "mc2_targets")
MC_TASK = "give the released mc_task.json"


def _read_truthfulqa(name: str, path: Path, *, task: str) -> list[TaskPart]:
    rows = read_json(path, MC_TASK)
    if not isinstance(rows, list) or not rows:
        raise InputError("is not a list of questions", path=path, fix=MC_TASK)
    documents = [_truthfulqa_document(path, number, row) for number, row in enumerate(rows)]
    return [TaskPart({"task": task}, {"validation": documents}, tested="validation", builtin="truthfulqa")]


def _truthfulqa_document(path: Path, number: int, row: Any) -> Document:
    question = row.get("question") if isinstance(row, dict) else None
    if not isinstance(question, str) or not question.strip():
        raise InputError(f"question {number} has no text", path=path, field="question", fix=MC_TASK)
    return {"question": question, **{field: _targets(path, number, row, field) for field in TARGETS}}


def _targets(path: Path, number: int, row: dict[str, Any], field: str) -> dict[str, list[Any]]:
    """The hub's schema. lm-eval takes mc1's right choice to be the first: it is put there."""
    targets = row.get(field)
    right = list(targets.values()) if isinstance(targets, dict) else []
    if set(right) != {0, 1} or (field == "mc1_targets" and sum(right) != 1):
        problem = f"question {number} has no right and wrong choices, or several right ones in mc1"
        raise InputError(problem, path=path, field=field, fix=MC_TASK)
    assert isinstance(targets, dict)  # `right` is empty otherwise
    choices = sorted(targets, key=lambda choice: -targets[choice])
    return {"choices": choices, "labels": [targets[choice] for choice in choices]}


TRUTHFULQA_MC1, TRUTHFULQA_MC2 = (
    Form(partial(_read_truthfulqa, task=f"truthfulqa_{kind}")) for kind in ("mc1", "mc2")
)
