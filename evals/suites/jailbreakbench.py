"""JailbreakBench behaviours: 100 harmful, 100 benign look-alikes, paired row by row.

Source: JailbreakBench/JBB-Behaviors, `harmful-behaviors.csv` and `benign-behaviors.csv` (Chao et al.,
NeurIPS 2024 Datasets and Benchmarks, arXiv 2404.01318). Licence: MIT.

Response types: harmful -> hard_refuse, benign -> comply. The prompt is the `Goal`; categories are the ten of
the file. Harmful and benign row k share a behaviour: ids `harmful-k`, `benign-k`.
Metrics: `not_unsafe`, `not_overrefuse`, `f1`, as in XSTest. (The benchmark's own attack success rate with a
Llama judge is 1 - not_unsafe on the harmful half under that judge.)

Both spellings of the header are read (`Goal` on the hub, `goal` in copies of it).
"""

from __future__ import annotations

from pathlib import Path

from evals.suites.suite import Suite, SuiteSource, find_file, make_suite
from evals.values.conversation import Prompt, ResponseType, user_prompt
from evals.values.csv_rows import check_unique, filled, read_csv
from evals.values.errors import InputError

FILES = {"harmful": ResponseType.HARD_REFUSE, "benign": ResponseType.COMPLY}


def load(path: Path) -> Suite:
    """`path`: the folder with both files, or one of them."""
    if path.is_dir():
        found = [(find_file(path, f"{half}-behaviors.csv"), half) for half in FILES]
    else:
        found = [(find_file(path, ""), _half(path))]
    prompts = [prompt for file, half in found for prompt in _read(file, half)]
    return make_suite(JAILBREAKBENCH.name, path, prompts)


def _half(path: Path) -> str:
    for half in FILES:
        if path.name.startswith(half):
            return half
    raise InputError(
        "the name does not tell harmful from benign behaviours",
        path=path,
        fix="name it harmful-behaviors.csv or benign-behaviors.csv, or give the folder of both",
    )


def _read(file: Path, half: str) -> list[Prompt]:
    rows = read_csv(file, ("goal", "category"), rename=_lower_case)
    if "index" in rows[0].values:
        check_unique(rows, "index")
    return [
        user_prompt(
            f"{half}-{row.values.get('index', k)}", filled(row, "goal"), FILES[half], filled(row, "category")
        )
        for k, row in enumerate(rows)
    ]


def _lower_case(column: str) -> str:
    return column.lower() or "index"  # pandas leaves the index column's name empty


JAILBREAKBENCH = SuiteSource(
    name="jailbreakbench",
    folder="jailbreakbench",
    files=("harmful-behaviors.csv", "benign-behaviors.csv"),
    load=load,
    source="https://huggingface.co/datasets/JailbreakBench/JBB-Behaviors",
    licence="MIT",
    hub="JailbreakBench/JBB-Behaviors",
)
