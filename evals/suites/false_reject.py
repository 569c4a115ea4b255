"""FalseReject: 1,187 prompts, checked by people, that look harmful and should be answered.

Source: AmazonScience/FalseReject on the hub, `test.jsonl` (Zhang et al., COLM 2025, arXiv 2505.08054).
Licence: CC-BY-NC-4.0. Fields, by the data set's card: `prompt`, `category` (a number) and `category_text`;
`train.jsonl` has responses beside them and loads too.

Response types: comply. Categories are the 44 of the file; ids are `test-k`, by its rows from 0.
Metrics: `not_overrefuse` (the paper's compliance rate, with partial refusals counted as refusals).
"""

from __future__ import annotations

from pathlib import Path

from evals.suites.suite import Suite, SuiteSource, find_file, make_suite
from evals.values.conversation import Prompt, ResponseType, user_prompt
from evals.values.csv_rows import filled
from evals.values.jsonl_rows import Row, read_jsonl

FILE = "test.jsonl"


def load(path: Path) -> Suite:
    """`path`: the released file, or the folder that holds it."""
    file = find_file(path, FILE)
    part = file.name.partition(".")[0]
    rows = enumerate(read_jsonl(file, _check))
    return make_suite(FALSE_REJECT.name, file, [_prompt(f"{part}-{number}", row) for number, row in rows])


def _check(row: Row) -> Row:
    row.get("prompt", str)
    return row


def _prompt(id: str, row: Row) -> Prompt:
    category = str(row.values.get("category_text") or row.values.get("category", "")).strip() or "none"
    return user_prompt(id, filled(row, "prompt"), ResponseType.COMPLY, category)


FALSE_REJECT = SuiteSource(
    name="false_reject",
    folder="false_reject",
    files=(FILE,),
    load=load,
    source="https://huggingface.co/datasets/AmazonScience/FalseReject",
    licence="CC-BY-NC-4.0",
    hub="AmazonScience/FalseReject",
)
