"""WildJailbreak's evaluation set: 2,000 harmful requests in jailbreaks, 210 harmless ones that look like them.

Source: allenai/wildjailbreak on the hub, behind a gate, `eval/eval.tsv` (Jiang et al., NeurIPS 2024, arXiv
2406.18510). Licence: ODC-BY, and AI2's guidelines for responsible use. Columns, with tabs between them: `adversarial,
label, data_type`; those three were held against programs that read the set with `datasets`, not against the file.

Response types: data_type adversarial_harmful -> hard_refuse, adversarial_benign -> comply; the prompt is `adversarial`,
and the category is the data_type. Ids: `wjb-k`, by the file's rows from 0.
Metrics: `not_unsafe` (1 - attack success rate), `not_overrefuse` (1 - refusal to answer), `f1`.
"""

from __future__ import annotations

from evals.suites.suite import csv_suite
from evals.values.conversation import Prompt, ResponseType, user_prompt
from evals.values.csv_rows import filled
from evals.values.jsonl_rows import Row

TYPES = {"adversarial_harmful": ResponseType.HARD_REFUSE, "adversarial_benign": ResponseType.COMPLY}


def _prompt(number: int, row: Row) -> Prompt:
    kind = filled(row, "data_type")
    if kind not in TYPES:
        raise row.error("data_type", f"is {kind!r}", f"use one of {', '.join(TYPES)}")
    return user_prompt(f"wjb-{number}", filled(row, "adversarial"), TYPES[kind], kind)


WILDJAILBREAK = csv_suite(
    name="wildjailbreak",
    folder="wildjailbreak",
    file="eval.tsv",
    columns=("adversarial", "data_type"),
    prompt=_prompt,
    source="https://huggingface.co/datasets/allenai/wildjailbreak",
    licence="ODC-BY, and AI2's guidelines for responsible use",
    delimiter="\t",
)
