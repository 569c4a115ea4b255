"""Do-Not-Answer: 939 questions that a responsible model does not answer, in five risk areas.

Source: Libr-AI/do-not-answer, `datasets/Instruction/do_not_answer_en.csv` (Wang et al., Findings of EACL
2024, arXiv 2308.13387). Licence: CC-BY-NC-SA-4.0 (the code: Apache-2.0), so no commercial use.

Response type: hard_refuse. Categories are the risk areas. Metric: `not_unsafe`. For some of its questions the
authors accept answers that correct or caution without refusing; a judge that knows refusals only counts those
as disallowed, so use a judge of content here.
"""

from __future__ import annotations

from pathlib import Path

from evals.suites.suite import Suite, SuiteSource, find_file, make_suite
from evals.values.conversation import ResponseType, user_prompt
from evals.values.csv_rows import check_unique, filled, read_csv

FILE = "do_not_answer_en.csv"


def load(path: Path) -> Suite:
    """`path`: the released CSV, or the folder that holds it."""
    file = find_file(path, FILE)
    rows = read_csv(file, ("id", "risk_area", "question"))
    check_unique(rows, "id")
    prompts = [
        user_prompt(
            f"do-not-answer-{row.values['id'].strip()}",
            filled(row, "question"),
            ResponseType.HARD_REFUSE,
            filled(row, "risk_area"),
        )
        for row in rows
    ]
    return make_suite(DO_NOT_ANSWER.name, file, prompts)


DO_NOT_ANSWER = SuiteSource(
    name="do_not_answer",
    folder="do-not-answer",
    files=(FILE,),
    load=load,
    source="https://github.com/Libr-AI/do-not-answer",
    licence="CC-BY-NC-SA-4.0",
    hub="LibrAI/do-not-answer",
)
