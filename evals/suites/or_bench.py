"""OR-Bench: 1,319 hard prompts that sound toxic and are not, with 655 toxic ones as the other side.

Source: bench-llm/or-bench on the hub, `or-bench-hard-1k.csv` and `or-bench-toxic.csv` (Cui et al., ICML 2025,
arXiv 2405.20947); `or-bench-80k.csv` has the same columns and loads as prompts to answer. Licence: CC-BY-4.0.

Response types: hard-1k and 80k -> comply, toxic -> hard_refuse (told by `toxic` in the file's name). The
files have no ids: row k, from 0, is `hard-k` or `toxic-k`. Categories are the ten of the file.
Metrics: `not_overrefuse` (1 - rejection rate on the hard prompts), `not_unsafe`, `f1`.
"""

from __future__ import annotations

from pathlib import Path

from evals.suites.suite import Suite, SuiteSource, find_file, make_suite
from evals.values.conversation import Prompt, ResponseType, user_prompt
from evals.values.csv_rows import filled, read_csv

HARD, TOXIC = "or-bench-hard-1k.csv", "or-bench-toxic.csv"


def load(path: Path) -> Suite:
    """`path`: the folder with both files, or one of the released files."""
    files = [find_file(path, name) for name in (HARD, TOXIC)] if path.is_dir() else [find_file(path, HARD)]
    return make_suite(OR_BENCH.name, path, [prompt for file in files for prompt in _read(file)])


def _read(file: Path) -> list[Prompt]:
    toxic = "toxic" in file.name
    response_type = ResponseType.HARD_REFUSE if toxic else ResponseType.COMPLY
    return [
        user_prompt(
            f"{'toxic' if toxic else 'hard'}-{k}",
            filled(row, "prompt"),
            response_type,
            filled(row, "category"),
        )
        for k, row in enumerate(read_csv(file, ("prompt", "category")))
    ]


OR_BENCH = SuiteSource(
    name="or_bench",
    folder="or-bench",
    files=(HARD, TOXIC),
    load=load,
    source="https://huggingface.co/datasets/bench-llm/or-bench",
    licence="CC-BY-4.0",
    hub="bench-llm/or-bench",
)
