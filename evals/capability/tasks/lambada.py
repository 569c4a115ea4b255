"""LAMBADA with lm-eval's own `lambada_openai` prompts and metrics.

Source: OpenAI's version of LAMBADA (arXiv 1606.06031), `lambada_test.jsonl` with rows `text`, or the
same passages split into `context, continuation` (llm-foundry, Apache-2.0). Metric: acc.
"""

from __future__ import annotations

from pathlib import Path

from evals.capability.tasks.form import Document, Form, Released, TaskPart, text_field
from evals.values.jsonl_rows import Row, read_jsonl


def _read_lambada(name: str, path: Path) -> list[TaskPart]:
    documents = read_jsonl(path, _lambada_document)
    return [TaskPart({"task": "lambada_openai"}, {"test": documents}, builtin="lambada")]


def _lambada_document(row: Row) -> Document:
    if "context" in row.values or "continuation" in row.values:
        return {"text": f"{text_field(row, 'context')} {text_field(row, 'continuation')}"}
    return {"text": text_field(row, "text")}


TASKS = {
    "lambada": Released(Form(_read_lambada), ("lambada/lambada_openai.jsonl", "lambada/lambada_test.jsonl"))
}
