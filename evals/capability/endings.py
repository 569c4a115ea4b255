"""Which ending follows, as the sandbox's HellaSwag-style task is.

Rows of a JSONL file: `id, context, endings: [text, ...], label: index`. Metrics: acc and acc_norm, as for
HellaSwag in lm-eval.
"""

from __future__ import annotations

from pathlib import Path

from evals.capability.form import (
    ACC,
    ACC_NORM,
    Document,
    Form,
    Part,
    choices_field,
    id_field,
    index_field,
    local_part,
    text_field,
)
from evals.values.conversation import Row, read_jsonl


def read(name: str, path: Path) -> list[Part]:
    seen: dict[str, int] = {}
    documents = read_jsonl(path, lambda row: _document(row, seen))
    part = local_part(
        name,
        documents,
        output_type="multiple_choice",
        doc_to_text="context",
        doc_to_choice="endings",
        doc_to_target="label",
        metric_list=[ACC, ACC_NORM],
    )
    return [part]


def _document(row: Row, seen: dict[str, int]) -> Document:
    endings = choices_field(row, "endings")
    return {
        "id": id_field(row, seen),
        "context": text_field(row, "context"),
        "endings": endings,
        "label": index_field(row, "label", endings),
    }


FORM = Form(read)
