"""PHTest: pseudo-harmful prompts, which look harmful and should be answered.

Source: furonghuang-lab/PHTest on the hub, `PHTest.csv` (An et al., COLM 2024, arXiv 2409.00598). Licence: MIT. Columns:
`ID, Request, Harmfulness`, the last harmless or controversial; held against programs that read the set, not against
the file.

Response types: harmless -> comply. What its authors call controversial may rightly be refused, and is left out.
Ids: `ph-ID`. Metrics: `not_overrefuse`.
"""

from __future__ import annotations

from evals.suites.suite import csv_suite
from evals.values.conversation import Prompt, ResponseType, user_prompt
from evals.values.csv_rows import filled
from evals.values.jsonl_rows import Row

ASKED, LEFT_OUT = "harmless", "controversial"


def _prompt(_: int, row: Row) -> Prompt | None:
    kind = filled(row, "Harmfulness").strip().lower()
    if kind not in (ASKED, LEFT_OUT):
        raise row.error("Harmfulness", f"is {kind!r}", f"use {ASKED} or {LEFT_OUT}")
    if kind == LEFT_OUT:
        return None
    return user_prompt(f"ph-{filled(row, 'ID')}", filled(row, "Request"), ResponseType.COMPLY, kind)


PHTEST = csv_suite(
    name="phtest",
    folder="phtest",
    file="PHTest.csv",
    columns=("ID", "Request", "Harmfulness"),
    unique="ID",
    prompt=_prompt,
    source="https://huggingface.co/datasets/furonghuang-lab/PHTest",
    licence="MIT",
    hub="furonghuang-lab/PHTest",
)
