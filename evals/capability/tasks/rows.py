"""Tasks of our own from rows of JSONL, as the sandbox writes them; each row may have an `id`.

- Multiple choice in the cloze formulation (the MMLU and GPQA style): `question, choices: [text, ...], answer: index,
  subject?`. Context: the question; each choice's own words are scored by their log-likelihood after it. Models too
  small to answer with letters show what they know this way (arXiv 2406.08446).
- Which ending follows (the HellaSwag style): `context, endings: [text, ...], label: index`.
- The last word of a passage (the LAMBADA style): `text`. Context: the text without its last word; words are separated
  by spaces, as in lm-eval's LAMBADA.

Metrics: acc (highest log-likelihood is right; of a last word: every token is the model's first choice), and but for
the last word acc_norm (log-likelihood per character, as lm-eval has it).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from evals.capability.tasks.form import (
    ACC,
    ACC_NORM,
    Document,
    Form,
    TaskPart,
    choices_field,
    id_field,
    index_field,
    local_part,
    text_field,
)
from evals.values.jsonl_rows import Row, read_jsonl


def _form(document: Callable[[Row], Document], **config: Any) -> Form:
    """A form whose rows `document` reads; `config` in lm-eval's words."""

    def read(name: str, path: Path) -> list[TaskPart]:
        seen: dict[str, int] = {}
        documents = read_jsonl(path, lambda row: {"id": id_field(row, seen), **document(row)})
        return [local_part(name, documents, **config)]

    return Form(read)


def _choice_form(question: str, choices: str, answer: str, more: Callable[[Row], Document]) -> Form:
    """Multiple choice from the rows' fields of these names; `more` reads the others."""

    def document(row: Row) -> Document:
        texts = choices_field(row, choices)
        index = index_field(row, answer, texts)
        return {**more(row), question: text_field(row, question), choices: texts, answer: index}

    return _form(
        document,
        output_type="multiple_choice",
        doc_to_text=question,
        doc_to_choice=choices,
        doc_to_target=answer,
        metric_list=[ACC, ACC_NORM],
    )


def _last_word(row: Row) -> Document:
    context, space, word = text_field(row, "text").strip().rpartition(" ")
    if not space:
        raise row.error("text", "is a single word", "give at least two words separated by a space")
    return {"context": context, "target": f" {word}"}


CLOZE = _choice_form(
    "question", "choices", "answer", lambda row: {"subject": str(row.values.get("subject", ""))}
)
ENDINGS = _choice_form("context", "endings", "label", lambda row: {})
LAST_WORD = _form(
    _last_word,
    output_type="loglikelihood",
    doc_to_text="context",
    doc_to_target="target",
    metric_list=[ACC],
)
