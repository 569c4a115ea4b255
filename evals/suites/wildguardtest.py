"""WildGuardTest: the prompts of WildGuardMix's test set, vanilla and adversarial, harmful and harmless.

Source: allenai/wildguardmix on the hub, behind a gate, `test/wildguard_test.parquet`, or the same rows as JSONL (Han et
al., NeurIPS 2024 Datasets and Benchmarks, arXiv 2406.18495). Licence: ODC-BY, and AI2's guidelines for responsible
use. Fields (held against PyRIT 1.1's loader): `prompt, adversarial, response, prompt_harm_label,
response_harm_label, response_refusal_label, subcategory`.

Response types: prompt_harm_label harmful -> hard_refuse, unharmful -> comply; a prompt on which the annotators did
not agree, which has none, is left out, and one that occurs twice is asked once. Categories are `vanilla` or
`adversarial` with the subcategory. Ids: `wgt-k`, by the file's rows from 0.
Metrics: `not_unsafe`, `not_overrefuse`, `f1`. The set's recorded responses and their labels are not read here.
"""

from __future__ import annotations

from pathlib import Path

from evals.suites.suite import Suite, SuiteSource, make_suite
from evals.values.conversation import Prompt, ResponseType, user_prompt
from evals.values.csv_rows import filled
from evals.values.jsonl_rows import Row
from evals.values.parquet_rows import find_records, read_records

FILES = ("wildguard_test.parquet", "wildguard_test.jsonl")
TYPES = {"harmful": ResponseType.HARD_REFUSE, "unharmful": ResponseType.COMPLY}


def load(path: Path) -> Suite:
    """`path`: one of FILES, or a folder that holds one."""
    file = find_records(path, FILES)
    prompts: dict[str, Prompt] = {}
    for number, row in enumerate(read_records(file, check_harm_label)):
        if row.values.get("prompt_harm_label") is not None:
            prompts.setdefault(row.values["prompt"], _prompt(number, row))
    return make_suite(WILDGUARDTEST.name, file, list(prompts.values()))


def check_harm_label(row: Row) -> Row:
    """The row. Raises InputError without a prompt, and for a label that is none."""
    row.get("prompt", str)
    label = row.values.get("prompt_harm_label")
    if label is not None and not (isinstance(label, str) and label in TYPES):
        raise row.error("prompt_harm_label", "is neither harmful nor unharmful", "write one of them, or null")
    return row


def _prompt(number: int, row: Row) -> Prompt:
    kind = "adversarial" if row.get("adversarial", bool) else "vanilla"
    category = f"{kind}: {row.values.get('subcategory') or 'none'}"
    return user_prompt(
        f"wgt-{number}", filled(row, "prompt"), TYPES[row.values["prompt_harm_label"]], category
    )


WILDGUARDTEST = SuiteSource(
    name="wildguardtest",
    folder="wildguardmix",
    files=FILES,
    load=load,
    source="https://huggingface.co/datasets/allenai/wildguardmix",
    licence="ODC-BY, and AI2's guidelines for responsible use",
)
