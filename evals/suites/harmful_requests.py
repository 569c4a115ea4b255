"""Suites of harmful requests that lie in one CSV file each.

Source: and Licence: see each suite, below, and what stands before it. Response type: hard_refuse, but where it says
otherwise. Metric of all: `not_unsafe`.
"""

from __future__ import annotations

from evals.suites.suite import csv_suite
from evals.values.conversation import Prompt, ResponseType, user_prompt
from evals.values.csv_rows import filled
from evals.values.jsonl_rows import Row

SELF_HARM = "Suicide, Self-Harm, and Eating Disorders"


def _hard(id: str, row: Row, text: str, category: str) -> Prompt:
    return user_prompt(id, filled(row, text), ResponseType.HARD_REFUSE, filled(row, category))


def _of_area(number: int, row: Row) -> Prompt:
    area = filled(row, "harm_area")
    kind = ResponseType.SAFE_REFUSE_2 if area == SELF_HARM else ResponseType.HARD_REFUSE
    return user_prompt(row.values["id"].strip(), filled(row, "prompts_final"), kind, area)


# AdvBench: 520 harmful behaviours phrased as instructions (Zou et al., 2023, arXiv 2307.15043).
#
# The file has no categories. It has no ids either: row k, from 0, is `advbench-k`. Many of the behaviours are near
# duplicates, so intervals are too narrow.
ADVBENCH = csv_suite(
    name="advbench",
    folder="advbench",
    file="harmful_behaviors.csv",
    columns=("goal",),
    prompt=lambda k, row: user_prompt(
        f"advbench-{k}", filled(row, "goal"), ResponseType.HARD_REFUSE, "harmful_behaviour"
    ),
    source="https://github.com/llm-attacks/llm-attacks",
    licence="MIT",
    hub="walledai/AdvBench",
)

# Do-Not-Answer: 939 questions that a responsible model does not answer, in five risk areas (Wang et al., Findings of
# EACL 2024, arXiv 2308.13387; `datasets/Instruction/do_not_answer_en.csv`). Its licence allows no commercial use (the
# code: Apache-2.0).
#
# Categories are the risk areas. For some of its questions the authors accept answers that correct or caution without
# refusing; a judge that knows refusals only counts those as disallowed, so use a judge of content here.
DO_NOT_ANSWER = csv_suite(
    name="do_not_answer",
    folder="do-not-answer",
    file="do_not_answer_en.csv",
    columns=("id", "risk_area", "question"),
    unique="id",
    prompt=lambda _, row: _hard(f"do-not-answer-{row.values['id'].strip()}", row, "question", "risk_area"),
    source="https://github.com/Libr-AI/do-not-answer",
    licence="CC-BY-NC-SA-4.0",
    hub="LibrAI/do-not-answer",
)

# SimpleSafetyTests: 100 plainly unsafe prompts in five areas of harm (Vidgen et al., 2023, arXiv 2311.08370; released
# as `SimpleSafetyTests - test cases.csv`).
#
# In the area of suicide, self-harm and eating disorders the type is safe_refuse_2 (a soft refusal of a request for
# methods). Both are to be refused, so `not_unsafe` is the same either way; the type matters to a judge of style.
# Categories are the five areas. The paper's "unsafe response rate" is 1 - not_unsafe under its annotators.
SIMPLE_SAFETY_TESTS = csv_suite(
    name="simple_safety_tests",
    folder="simple-safety-tests",
    file="SimpleSafetyTests_test_cases.csv",
    columns=("id", "harm_area", "prompts_final"),
    unique="id",
    prompt=_of_area,
    source="https://github.com/bertiev/SimpleSafetyTests",
    licence="CC-BY-4.0",
)

# StrongREJECT: 313 forbidden prompts in six categories (Souly et al., NeurIPS 2024, arXiv 2402.10260);
# `strongreject_small_dataset.csv` (60 prompts) has the same columns.
#
# The file has no ids: row k of it, from 0, is `strongreject-k`. StrongREJECT's own score weighs how convincing and
# specific a harmful answer is (0 to 1); not_unsafe counts whether there is one.
STRONGREJECT = csv_suite(
    name="strongreject",
    folder="strongreject",
    file="strongreject_dataset.csv",
    columns=("category", "forbidden_prompt"),
    prompt=lambda k, row: _hard(f"strongreject-{k}", row, "forbidden_prompt", "category"),
    source="https://github.com/alexandrasouly/strongreject",
    licence="MIT",
    hub="walledai/StrongREJECT",
)
