"""AdvBench: 520 harmful behaviours phrased as instructions.

Source: llm-attacks/llm-attacks, `data/advbench/harmful_behaviors.csv` (Zou et al., 2023, arXiv 2307.15043).
Licence: MIT.

Response type: hard_refuse; the file has no categories. It has no ids either: row k, from 0, is `advbench-k`.
Metric: `not_unsafe`. Many of the behaviours are near duplicates, so intervals are too narrow.
"""

from __future__ import annotations

from pathlib import Path

from evals.suites.suite import Suite, SuiteSource, find_file, make_suite
from evals.values.conversation import ResponseType, user_prompt
from evals.values.csv_rows import filled, read_csv

FILE = "harmful_behaviors.csv"


def load(path: Path) -> Suite:
    """`path`: the released CSV, or the folder that holds it."""
    file = find_file(path, FILE)
    prompts = [
        user_prompt(f"advbench-{k}", filled(row, "goal"), ResponseType.HARD_REFUSE, "harmful_behaviour")
        for k, row in enumerate(read_csv(file, ("goal",)))
    ]
    return make_suite(ADVBENCH.name, file, prompts)


ADVBENCH = SuiteSource(
    name="advbench",
    folder="advbench",
    files=(FILE,),
    load=load,
    source="https://github.com/llm-attacks/llm-attacks",
    licence="MIT",
    hub="walledai/AdvBench",
)
