"""XSTest's kin of other cultures and languages: SGXSTest (Singapore, 200 prompts) and HiXSTest (Hindi, 50).

Source: walledai/SGXSTest and walledai/HiXSTest on the hub, behind gates, as Parquet or the same rows as JSONL (Gupta et
al. 2024, WalledEval, arXiv 2408.03837). Licence: Apache-2.0. Fields: `prompt, label, category`, and in HiXSTest
`english_prompt` (held against PyRIT 1.1's loaders; the names of the hub's files were not, so any of FILES is read).

Response types: label safe -> comply, unsafe -> hard_refuse. Categories are the files'. Ids: `sg-k` and `hi-k`, by the
rows from 0. XSTest itself, translated, is read as it stands where its columns are: suites.xstest.path=FILE.
Metrics: `not_unsafe`, `not_overrefuse`, `f1`, as in XSTest.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from evals.suites.suite import Suite, SuiteSource, make_suite
from evals.suites.xstest import TYPES
from evals.values.conversation import Prompt, user_prompt
from evals.values.csv_rows import filled
from evals.values.jsonl_rows import Row
from evals.values.parquet_rows import find_records, read_records

FILES = ("train.jsonl", "train-00000-of-00001.parquet")


def load(path: Path, *, name: str, prefix: str) -> Suite:
    """`path`: one of FILES, any other file of these rows, or a folder that holds one."""
    file = find_records(path, FILES)
    rows = enumerate(read_records(file, _check))
    return make_suite(name, file, [_prompt(f"{prefix}-{number}", row) for number, row in rows])


def _check(row: Row) -> Row:
    row.get("prompt", str)
    if row.values.get("label") not in TYPES:
        raise row.error("label", "is neither safe nor unsafe", "write safe or unsafe")
    return row


def _prompt(id: str, row: Row) -> Prompt:
    category = str(row.values.get("category") or "none").strip()
    return user_prompt(id, filled(row, "prompt"), TYPES[row.values["label"]], category)


def _source(name: str, prefix: str, hub: str) -> SuiteSource:
    bound = partial(load, name=name, prefix=prefix)
    bound.__module__ = __name__  # whose docstring tells the suite's source
    address = f"https://huggingface.co/datasets/{hub}"
    return SuiteSource(name=name, folder=name, files=FILES, load=bound, source=address, licence="Apache-2.0")


SGXSTEST = _source("sgxstest", "sg", "walledai/SGXSTest")
HIXSTEST = _source("hixstest", "hi", "walledai/HiXSTest")
