"""conf/sources: every set with prompts, pairs or labels loads as it is released, with its counts and types."""

from __future__ import annotations

import os
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

import pytest

from evals.values.conversation import Comparison, Demonstration, LabelledResponse, Prompt
from evals.values.errors import InputError
from evals.values.levels import Levels
from evals.values.located_yaml import load_located_yaml
from harness.worlds.mixture.files import rows_of
from harness.worlds.mixture.forms import read_rows
from harness.worlds.mixture.source import SOURCES, source_of
from harness.worlds.sources import hh_rlhf
from harness.worlds.sources.fetch import TABLE
from harness.worlds.sources.fit import prompt_of

DATA = Path(os.environ.get("RBRBENCH_DATA", Path(__file__).parents[2] / "../shared/data"))
HARD, SOFT, YES, NONE = "hard_refuse", "safe_refuse_2", "comply", None
GOLD = {YES: 196, HARD: 88, SOFT: 58, "safe_refuse_1": 9}
# {source: {what its rows are read as: rows by response type}}
EXPECTED = {
    "adversarialqa": {Prompt: {HARD: 500}},
    "catqa": {Prompt: {HARD: 540, SOFT: 10}},
    "coconot": {Prompt: {HARD: 395}},
    "coconot_contrast": {Prompt: {YES: 379}},
    "coconot_pairs": {Comparison: {YES: 927}, Prompt: {YES: 927}},
    "dangerousqa": {Prompt: {HARD: 200}},
    "dolly": {Demonstration: {NONE: 1000}, Prompt: {NONE: 1000}},
    "gptfuzz_evaluate": {Demonstration: {HARD: 995}},
    "gptfuzz_train": {Demonstration: {HARD: 4466}},
    "gptfuzz_questions": {Prompt: {HARD: 100}},
    "harmbench_test": {Prompt: {HARD: 159}},
    "harmbench_val": {Prompt: {HARD: 41}},
    "harmfulqa": {Prompt: {HARD: 1960}},
    "hh_harmless": {Comparison: {NONE: 2308}},
    "hh_helpful": {Comparison: {NONE: 1982}},
    "jailbreakbench_benign": {Prompt: {YES: 100}},
    "jailbreakbench_harmful": {Prompt: {HARD: 100}},
    "med_safety": {Prompt: {HARD: 450}, Demonstration: {HARD: 450}},
    "openai_moderation": {Prompt: {NONE: 1680}},
    "openai_moderation_self_harm": {Prompt: {"safe_refuse_1": 51}},
    "openai_rbr": {LabelledResponse: GOLD, Prompt: GOLD},
    "pandalm": {Comparison: {NONE: 855}},
    "realtoxicityprompts": {Prompt: {NONE: 5000}, Demonstration: {NONE: 5000}},
    "simple_safety_tests": {Prompt: {HARD: 80, SOFT: 20}},
    "stereoset": {Demonstration: {NONE: 4229}},
    "truthfulqa": {Comparison: {YES: 790}, Demonstration: {YES: 790}},
    "truthfulqa_finetune": {Demonstration: {NONE: 22434}},
    "truthfulqa_v1": {Demonstration: {YES: 817}},
    "xstest": {Prompt: {YES: 250, HARD: 200}},
    "xstest_completions": {Demonstration: {YES: 750, HARD: 600}},
}
# Files of the data folder that are no source, by their beginning.
OTHERS = {
    "coconot/original_seed": "few-shot examples",
    "coconot/refusal_evaluation": "a judge's rubric",
    "coconot/safety_contrast": "few-shot examples",
    "gutenberg/": "plain text",
    "harmbench/harmbench_behaviors_text_all": "its two parts together",
    "hellaswag/": "a capability task",
    "lambada/": "a capability task",
    "mmlu/": "a capability task",
    "openai-rbr/proposition_prompts": "a rulebook",
    "truthfulqa/mc_task": "the questions of TruthfulQA.csv again",
    "truthfulqa/v1/mc_task": "the questions of TruthfulQA.csv again",
    "wikitext-2/": "plain text",
    "xstest/evaluation/": "the completions again, with judges' verdicts",
}


def test_every_file_of_the_data_folder_has_a_source() -> None:
    """A set that lay in the folder and that no run could name."""
    table = DATA / "FILES.tsv"
    if not table.is_file():
        pytest.skip(f"{table} is not there")
    files = [line.split("\t")[0] for line in table.read_text().splitlines()[1:]]
    patterns = [source_of(name, "data.gold[0]", None).path for name in EXPECTED]
    lacking = [
        f for f in files if not any(fnmatch(f, p) for p in patterns) and not f.startswith(tuple(OTHERS))
    ]
    assert lacking == []


def test_every_source_is_expected_and_says_whose_it_is() -> None:
    assert {path.stem for path in SOURCES.glob("*.yaml")} == set(EXPECTED)
    fetched = [*load_located_yaml(TABLE), hh_rlhf.FILES["helpful"]]
    for name in EXPECTED:
        source = source_of(name, "data.gold[0]", None)
        assert source.licence and source.citation, name
        assert any(fnmatch(file, source.path) for file in fetched), f"nothing fetches {source.path}"


def test_a_source_that_was_not_fetched_says_how() -> None:
    """`data.safety_prompts=[catqa]` without data.root was to name a file."""
    with pytest.raises(
        InputError, match=r"catqa_english.json: no such file.*data.root=FOLDER; `rbrbench fetch"
    ):
        rows_of(source_of("catqa", "data.safety_prompts[0]", None))


@pytest.mark.parametrize("name", EXPECTED)
def test_a_released_set_loads_whole(name: str) -> None:
    """A set's quirks (a BOM, a column without a name, nested columns, empty responses) hid it from a run."""
    source = source_of(name, "data.gold[0]", str(DATA))
    if not (DATA / source.path.partition("*")[0]).exists() and not Path(source.path).exists():
        pytest.skip(f"{source.path} is not in {DATA}")
    rows = rows_of(source)
    known: dict[str, Levels] = {p: () for row in rows for p in row.values.get("propositions", ())}
    for kind, expected in EXPECTED[name].items():
        items = [item for _, item in read_rows(rows, source, kind, known, Counter())]
        kinds = (prompt_of(item).response_type for item in items)
        assert Counter(kind.value if kind else None for kind in kinds) == expected
