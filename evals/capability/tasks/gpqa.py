"""GPQA with lm-eval's own zero-shot prompts and metrics: main and diamond.

Source: Rein et al. 2023 (arXiv 2311.12022), CC BY 4.0; the released `gpqa_main.csv` and `gpqa_diamond.csv`. Its
authors ask that the questions be shown nowhere: no message here holds one. Metrics: acc and acc_norm. The choices
stand in an order drawn by the question itself, the same for every model and run; lm-eval draws it anew in each
process, with Python's global generator, so its accuracy on the same items differs by that order.
"""

from __future__ import annotations

import hashlib
import random
from functools import partial
from pathlib import Path

from evals.capability.tasks.form import Document, Form, Released, TaskPart
from evals.values.csv_rows import filled, read_csv
from evals.values.jsonl_rows import Row

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


TASKS = {
    f"gpqa_{kind}": Released(
        Form(partial(_read_gpqa, task=f"gpqa_{kind}_zeroshot")), (f"gpqa/gpqa_{kind}.csv",)
    )
    for kind in ("main", "diamond")
}
