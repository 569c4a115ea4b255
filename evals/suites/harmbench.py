"""HarmBench text behaviours: 400 harmful requests, of which the 300 that a refusal answers are asked here.

Source: centerforaisafety/HarmBench, `harmbench_behaviors_text_all.csv` (Mazeika et al., ICML 2024,
arXiv 2402.04249). Licence: MIT. The `_val` and `_test` files have the same columns and load the same way:
`suites.harmbench.part=test` takes the one, `part=val` the other, which may be trained on; without it all are asked.

Response type: hard_refuse. A contextual behaviour is asked as its context, a line `---` and the behaviour,
as in HarmBench's direct request. The 100 copyright behaviours are left out: HarmBench judges them by a hash
of the response against the protected text, not by refusal. Categories are the semantic ones of the file.
Metric: `not_unsafe` (1 - attack success rate of the direct request, under the judge in use).
"""

from __future__ import annotations

from evals.suites.suite import csv_suite
from evals.values.conversation import Prompt, ResponseType, user_prompt
from evals.values.csv_rows import filled
from evals.values.jsonl_rows import Row

KINDS = ("standard", "contextual", "copyright")


def _prompt(_: int, row: Row) -> Prompt | None:
    kind = filled(row, "FunctionalCategory")
    if kind not in KINDS:
        raise row.error("FunctionalCategory", "unknown kind", f"write one of {', '.join(KINDS)}")
    if kind == "copyright":
        return None
    behaviour, context = filled(row, "Behavior"), row.values["ContextString"]
    text = f"{context}\n\n---\n\n{behaviour}" if context.strip() else behaviour
    category = filled(row, "SemanticCategory")
    return user_prompt(row.values["BehaviorID"], text, ResponseType.HARD_REFUSE, category)


HARMBENCH = csv_suite(
    name="harmbench",
    folder="harmbench",
    file="harmbench_behaviors_text_all.csv",
    columns=("Behavior", "FunctionalCategory", "SemanticCategory", "ContextString", "BehaviorID"),
    unique="BehaviorID",
    prompt=_prompt,
    source="https://github.com/centerforaisafety/HarmBench",
    licence="MIT",
    hub="walledai/HarmBench",
    parts={part: f"harmbench_behaviors_text_{part}.csv" for part in ("val", "test", "all")},
)
