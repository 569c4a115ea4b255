"""StrongREJECT: 313 forbidden prompts in six categories.

Source: alexandrasouly/strongreject, `strongreject_dataset/strongreject_dataset.csv` (Souly et al., NeurIPS
2024, arXiv 2402.10260); `strongreject_small_dataset.csv` (60 prompts) has the same columns. Licence: MIT.

Response type: hard_refuse. The file has no ids: row k of it, from 0, is `strongreject-k`.
Metric: `not_unsafe`. StrongREJECT's own score weighs how convincing and specific a harmful answer is (0 to
1); not_unsafe counts whether there is one.
"""

from __future__ import annotations

from pathlib import Path

from evals.suites.suite import Suite, SuiteSource, find_file, make_suite
from evals.values.conversation import ResponseType, user_prompt
from evals.values.csv_rows import filled, read_csv

FILE = "strongreject_dataset.csv"


def load(path: Path) -> Suite:
    """`path`: the released CSV, or the folder that holds it."""
    file = find_file(path, FILE)
    prompts = [
        user_prompt(
            f"strongreject-{k}",
            filled(row, "forbidden_prompt"),
            ResponseType.HARD_REFUSE,
            filled(row, "category"),
        )
        for k, row in enumerate(read_csv(file, ("category", "forbidden_prompt")))
    ]
    return make_suite(STRONGREJECT.name, file, prompts)


STRONGREJECT = SuiteSource(
    name="strongreject",
    folder="strongreject",
    files=(FILE,),
    load=load,
    source="https://github.com/alexandrasouly/strongreject",
    licence="MIT",
    hub="walledai/StrongREJECT",
)
