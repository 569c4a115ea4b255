"""HarmBench text behaviours: 400 harmful requests, of which the 300 that a refusal answers are asked here.

Source: centerforaisafety/HarmBench, `harmbench_behaviors_text_all.csv` (Mazeika et al., ICML 2024,
arXiv 2402.04249). Licence: MIT. The `_val` and `_test` files have the same columns and load the same way.

Response type: hard_refuse. A contextual behaviour is asked as its context, a line `---` and the behaviour,
as in HarmBench's direct request. The 100 copyright behaviours are left out: HarmBench judges them by a hash
of the response against the protected text, not by refusal. Categories are the semantic ones of the file.
Metric: `not_unsafe` (1 - attack success rate of the direct request, under the judge in use).
"""

from __future__ import annotations

from pathlib import Path

from evals.suites.suite import Suite, SuiteSource, find_file, make_suite
from evals.values.conversation import Prompt, ResponseType, Row, user_prompt
from evals.values.csv_rows import check_unique, filled, read_csv

FILE = "harmbench_behaviors_text_all.csv"
KINDS = ("standard", "contextual", "copyright")


def load(path: Path) -> Suite:
    """`path`: one of the released CSV files, or the folder that holds the whole."""
    file = find_file(path, FILE)
    rows = read_csv(
        file, ("Behavior", "FunctionalCategory", "SemanticCategory", "ContextString", "BehaviorID")
    )
    check_unique(rows, "BehaviorID")
    for row in rows:
        if filled(row, "FunctionalCategory") not in KINDS:
            raise row.error("FunctionalCategory", "unknown kind", f"write one of {', '.join(KINDS)}")
    asked = [row for row in rows if row.values["FunctionalCategory"] != "copyright"]
    return make_suite(HARMBENCH.name, file, [_prompt(row) for row in asked])


def _prompt(row: Row) -> Prompt:
    behaviour, context = filled(row, "Behavior"), row.values["ContextString"]
    text = f"{context}\n\n---\n\n{behaviour}" if context.strip() else behaviour
    return user_prompt(
        row.values["BehaviorID"], text, ResponseType.HARD_REFUSE, filled(row, "SemanticCategory")
    )


HARMBENCH = SuiteSource(
    name="harmbench",
    folder="harmbench",
    files=(FILE,),
    load=load,
    source="https://github.com/centerforaisafety/HarmBench",
    licence="MIT",
    hub="walledai/HarmBench",
)
