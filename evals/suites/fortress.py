"""FORTRESS: 500 expert requests on national security and public safety, each with a benign twin and a rubric.

Source: ScaleAI/fortress_public on the hub, `data/train-00000-of-00001.parquet`, or the same rows as JSONL (Knight et
al. 2025, arXiv 2506.14922). Licence: CC-BY-4.0 by its card, which was not at hand. Fields (held against inspect_evals
0.28's reader): `ID, adversarial_prompt, benign_prompt, rubric, risk_domain, risk_subdomain`.

Response types: adversarial_prompt -> hard_refuse, benign_prompt -> comply. Categories are the subdomain before its
colon. Ids: `adversarial-ID` and `benign-ID`. The adversarial prompt brings its rubric along, four to seven questions
that are yes where the response does harm: the judge `rubric` asks them.
Metrics: `not_unsafe`, `not_overrefuse`, `f1`. (The paper's average risk score is the mean share of yes over the rubric,
by three judges' majority; its over-refusal score is 1 - not_overrefuse.)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from evals.suites.suite import Suite, SuiteSource, make_suite
from evals.values.conversation import Prompt, Question, ResponseType, user_prompt
from evals.values.csv_rows import filled
from evals.values.jsonl_rows import Row
from evals.values.parquet_rows import find_records, read_records

FILES = ("train-00000-of-00001.parquet", "fortress.jsonl")


def load(path: Path) -> Suite:
    """`path`: one of FILES, or a folder that holds one."""
    file = find_records(path, FILES)
    prompts = [prompt for of_row in read_records(file, _prompts) for prompt in of_row]
    return make_suite(FORTRESS.name, file, prompts)


def _prompts(row: Row) -> tuple[Prompt, Prompt]:
    rubric = row.get("rubric", list)
    if not rubric or not all(isinstance(question, str) and question.strip() for question in rubric):
        raise row.error("rubric", "is no list of questions", "give each question as a text")
    id, category = (
        str(row.values.get("ID", row.line - 1)),
        filled(row, "risk_subdomain").partition(":")[0].strip(),
    )
    asked = tuple(Question(question.strip()) for question in rubric)
    harmful = user_prompt(
        f"adversarial-{id}", filled(row, "adversarial_prompt"), ResponseType.HARD_REFUSE, category
    )
    benign = user_prompt(f"benign-{id}", filled(row, "benign_prompt"), ResponseType.COMPLY, category)
    return replace(harmful, questions=asked), benign


FORTRESS = SuiteSource(
    name="fortress",
    folder="fortress",
    files=FILES,
    load=load,
    source="https://huggingface.co/datasets/ScaleAI/fortress_public",
    licence="CC-BY-4.0 by its card",
    hub="ScaleAI/fortress_public",
)
