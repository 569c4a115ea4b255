"""Multiple choice in the cloze formulation, as the sandbox's MMLU- and GPQA-style tasks are.

Rows of a JSONL file: `id, question, choices: [text, ...], answer: index, subject?`. Context: the question;
each choice's own words are scored by their log-likelihood after it. Models too small to answer with
letters show what they know this way (arXiv 2406.08446).

Metrics: acc (highest log-likelihood is right), acc_norm (log-likelihood per character, as lm-eval has it).
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
        doc_to_text="question",
        doc_to_choice="choices",
        doc_to_target="answer",
        metric_list=[ACC, ACC_NORM],
    )
    return [part]


def _document(row: Row, seen: dict[str, int]) -> Document:
    choices = choices_field(row, "choices")
    return {
        "id": id_field(row, seen),
        "subject": str(row.values.get("subject", "")),
        "question": text_field(row, "question"),
        "choices": choices,
        "answer": index_field(row, "answer", choices),
    }


FORM = Form(read)
