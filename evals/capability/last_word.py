"""The last word of a passage, as the sandbox's LAMBADA-style task is.

Rows of a JSONL file: `id, text`. Context: the text without its last word; metric: acc, whether every token
of the last word is the model's first choice. Words are separated by spaces, as in lm-eval's LAMBADA.
"""

from __future__ import annotations

from pathlib import Path

from evals.capability.form import ACC, Document, Form, Part, id_field, local_part, text_field
from evals.values.conversation import Row, read_jsonl


def read(name: str, path: Path) -> list[Part]:
    seen: dict[str, int] = {}
    documents = read_jsonl(path, lambda row: _document(row, seen))
    part = local_part(
        name,
        documents,
        output_type="loglikelihood",
        doc_to_text="context",
        doc_to_target="target",
        metric_list=[ACC],
    )
    return [part]


def _document(row: Row, seen: dict[str, int]) -> Document:
    text = text_field(row, "text").strip()
    context, space, word = text.rpartition(" ")
    if not space:
        raise row.error("text", "is a single word", "give at least two words separated by a space")
    return {"id": id_field(row, seen), "context": context, "target": f" {word}"}


FORM = Form(read)
