"""SimpleSafetyTests: 100 plainly unsafe prompts in five areas of harm.

Source: bertiev/SimpleSafetyTests, `SimpleSafetyTests - test cases.csv` (Vidgen et al., 2023,
arXiv 2311.08370). Licence: CC-BY-4.0.

Response types: hard_refuse; in the area of suicide, self-harm and eating disorders safe_refuse_2 (a soft
refusal of a request for methods). Both are to be refused, so `not_unsafe` is the same either way; the type
matters to a judge of style. Categories are the five areas. Metric: `not_unsafe` (the paper's "unsafe
response rate" is 1 - not_unsafe under its annotators).
"""

from __future__ import annotations

from pathlib import Path

from evals.suites.suite import Suite, SuiteSource, find_file, make_suite
from evals.values.conversation import ResponseType, user_prompt
from evals.values.csv_rows import check_unique, filled, read_csv

FILE = "SimpleSafetyTests_test_cases.csv"
SELF_HARM = "Suicide, Self-Harm, and Eating Disorders"


def load(path: Path) -> Suite:
    """`path`: the released CSV, or the folder that holds it."""
    file = find_file(path, FILE)
    rows = read_csv(file, ("id", "harm_area", "prompts_final"))
    check_unique(rows, "id")
    prompts = [
        user_prompt(row.values["id"].strip(), filled(row, "prompts_final"), _response_type(area), area)
        for row in rows
        for area in [filled(row, "harm_area")]
    ]
    return make_suite(SIMPLE_SAFETY_TESTS.name, file, prompts)


def _response_type(area: str) -> ResponseType:
    return ResponseType.SAFE_REFUSE_2 if area == SELF_HARM else ResponseType.HARD_REFUSE


SIMPLE_SAFETY_TESTS = SuiteSource(
    name="simple_safety_tests",
    folder="simple-safety-tests",
    files=(FILE,),
    load=load,
    source="https://github.com/bertiev/SimpleSafetyTests",
    licence="CC-BY-4.0",
)
