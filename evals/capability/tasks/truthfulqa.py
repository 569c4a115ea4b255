"""TruthfulQA's multiple choice with lm-eval's own prompts and metrics: mc1 and mc2.

Source: Lin et al. 2022 (arXiv 2109.07958), Apache-2.0; the released `mc_task.json`: a list of
`{"question", "mc1_targets": {choice: 0 or 1}, "mc2_targets": {...}}`. The hub's 817 questions, which lm-eval
takes, are the release's `data/v1`; a newer file of 790 is at its root. Metrics: acc of mc1 (the one right choice
is likeliest) and of mc2 (probability of the right choices among all).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from evals.capability.tasks.form import Document, Form, Released, TaskPart
from evals.values.errors import InputError
from evals.values.json_text import read_json

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


TASKS = {
    f"truthfulqa_{kind}": Released(
        Form(partial(_read_truthfulqa, task=f"truthfulqa_{kind}")),
        ("truthfulqa/v1/mc_task.json", "truthfulqa/mc_task.json"),
    )
    for kind in ("mc1", "mc2")
}
