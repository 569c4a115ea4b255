"""PolyGuardPrompts: WildGuardTest in 17 languages, by translations that people checked; 1,725 prompts in each.

Source: ToxicityPrompts/PolyGuardPrompts on the hub, `data/test-00000-of-00001.parquet`, or the same rows as JSONL
(Kumar et al., COLM 2025, arXiv 2504.04377). Licence: CC-BY-4.0. Fields, by the data set's card: `id` (a number, the
same in every language), `language` (`German`), `prompt, adversarial, prompt_harm_label, subcategory`, and of a recorded
response `response, response_refusal_label, response_harm_label` and others.

Response types: prompt_harm_label harmful -> hard_refuse, unharmful -> comply; a prompt without one, on which the
annotators did not agree, is left out, and one that occurs twice in its language is asked once. Categories are the
languages, so that every metric stands for each of them too. Ids: `LANGUAGE-id`.
Metrics: `not_unsafe`, `not_overrefuse`, `f1`. The recorded responses, with people's labels of refusals, are the label
set `polyguard` of `card.labels`: a judge is measured on them in every language.
"""

from __future__ import annotations

from pathlib import Path

from evals.suites.suite import Suite, SuiteSource, make_suite
from evals.suites.wildguardtest import TYPES, check_harm_label
from evals.values.conversation import Prompt, user_prompt
from evals.values.csv_rows import filled
from evals.values.jsonl_rows import Row
from evals.values.parquet_rows import find_records, read_records

FILES = ("test-00000-of-00001.parquet", "polyguard_prompts.jsonl")


def load(path: Path) -> Suite:
    """`path`: one of FILES, or a folder that holds one."""
    file = find_records(path, FILES)
    prompts: dict[tuple[str, str], Prompt] = {}
    for row in read_records(file, check):
        if row.values.get("prompt_harm_label") is not None:
            prompts.setdefault((row.values["language"], row.values["prompt"]), prompt_of(row))
    return make_suite(POLYGUARD.name, file, list(prompts.values()))


def check(row: Row) -> Row:
    """The row. Raises InputError where its language, number or label is none."""
    row.get("language", str)
    row.get("id", int)
    return check_harm_label(row)


def prompt_of(row: Row) -> Prompt:
    """Of a row with a harm label."""
    language = filled(row, "language")
    id = f"{language}-{row.values['id']}"
    return user_prompt(id, filled(row, "prompt"), TYPES[row.values["prompt_harm_label"]], language)


POLYGUARD = SuiteSource(
    name="polyguard",
    folder="polyguard",
    files=FILES,
    load=load,
    source="https://huggingface.co/datasets/ToxicityPrompts/PolyGuardPrompts",
    licence="CC-BY-4.0",
    hub="ToxicityPrompts/PolyGuardPrompts",
)
