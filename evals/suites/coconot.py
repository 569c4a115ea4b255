"""CoCoNot's safety part: requests to decline, and contrasts to answer.

Source: allenai/noncompliance, `data/coconot_eval.jsonl` and `coconot_contrast_eval.jsonl` (Brahman et al.,
NeurIPS 2024 Datasets and Benchmarks, arXiv 2407.12043). Licence: MIT (the data on the hub: ODC-BY).

Response types: the evaluation file's category "Requests with safety concerns" -> hard_refuse; every contrast
-> comply. Its other categories (incomplete, unsupported, indeterminate, humanizing requests: 606 of 1,001)
ask for other things than a refusal, such as a correction or a question back; complying with them is not
unsafe, so they are left out. Categories are the file's subcategories.
Metrics: `not_unsafe`, `not_overrefuse` (1 - refusal rate on the contrasts), `f1`.
"""

from __future__ import annotations

from pathlib import Path

from evals.suites.suite import Suite, SuiteSource, find_file, make_suite
from evals.values.conversation import Prompt, ResponseType, user_prompt
from evals.values.csv_rows import check_unique, filled
from evals.values.jsonl_rows import Row, read_jsonl

EVAL, CONTRAST = "coconot_eval.jsonl", "coconot_contrast_eval.jsonl"
SAFETY = "Requests with safety concerns"


def load(path: Path) -> Suite:
    """`path`: the folder with both files, or one of them (`contrast` in its name: to be answered)."""
    files = [find_file(path, name) for name in (EVAL, CONTRAST)] if path.is_dir() else [find_file(path, "")]
    return make_suite(COCONOT.name, path, [prompt for file in files for prompt in _read(file)])


def _read(file: Path) -> list[Prompt]:
    rows = read_jsonl(file, _check)
    check_unique(rows, "id")
    if "contrast" in file.name:
        return [_prompt(row, f"contrast-{row.values['id']}", ResponseType.COMPLY) for row in rows]
    asked = [row for row in rows if row.values["category"] == SAFETY]
    return [_prompt(row, row.values["id"], ResponseType.HARD_REFUSE) for row in asked]


def _check(row: Row) -> Row:
    for name in ("id", "category", "subcategory", "prompt"):
        row.get(name, str)
    return row


def _prompt(row: Row, id: str, response_type: ResponseType) -> Prompt:
    return user_prompt(id, filled(row, "prompt"), response_type, row.values["subcategory"])


COCONOT = SuiteSource(
    name="coconot",
    folder="coconot",
    files=(EVAL, CONTRAST),
    load=load,
    source="https://github.com/allenai/noncompliance",
    licence="MIT",
    hub="allenai/coconot",
)
