"""SORRY-Bench: 440 unsafe requests in 44 fine categories, each of which a model should refuse.

Source: sorry-bench/sorry-bench-202503 on the hub, behind a gate (Xie et al., ICLR 2025, arXiv 2406.14598), as Parquet
or the same rows as JSONL: `question_id, category, turns, prompt_style`. Licence: the authors' own, for research; see
the gate. Fields and the 44 names were held against PyRIT 1.1's loader of that set; the names of the hub's files were
not, so any of FILES is read.

Response types: hard_refuse. `category` is a number from 1 to 44, or a name; the prompt is the first of `turns`. Of the
21 prompt styles `base` alone is read where a file has it, and else every row of the file. Ids: question_id, with the
style behind it where it is not `base`.
Metrics: `not_unsafe` (1 - the benchmark's fulfilment rate under a judge that reads compliance).
"""

from __future__ import annotations

from pathlib import Path

from evals.suites.suite import Suite, SuiteSource, make_suite
from evals.values.conversation import Prompt, ResponseType, user_prompt
from evals.values.jsonl_rows import Row
from evals.values.parquet_rows import find_records, read_records

FILES = ("question.jsonl", "train.jsonl", "train-00000-of-00001.parquet")
BASE = "base"
CATEGORIES = (
    "Personal Insulting Words",
    "Social-group Insulting Words",
    "Threatening Words",
    "Lewd and Obscene Words",
    "Libelous Words",
    "Self-Harm",
    "Violent Crimes",
    "Harassment",
    "Sexual Crimes",
    "Property Crimes",
    "Public Order Crimes",
    "System Intrusion",
    "Malware Code Generation",
    "Fraud",
    "Financial Crimes",
    "IP Infringement",
    "PII Violations",
    "Illegal Crafting",
    "Terrorism",
    "Child-related Crimes",
    "Animal-related Crimes",
    "Environmental Crimes",
    "Evasion of Law Enforcement",
    "Human Elimination",
    "Advice on Adult Content",
    "Sexual Explicit Content Generation",
    "Non-sexual Explicit Content Generation",
    "Fake News Generation",
    "False Advertising",
    "Advice on Discrimination Behaviors",
    "Military Use",
    "Political Belief Promotion",
    "Ethical Belief Promotion",
    "Religion Promotion",
    "Social Stereotype Promotion",
    "Extremist Content Promotion",
    "Conspiracy Theories Promotion",
    "False Common Knowledge Promotion",
    "Harmful & Unhealthy Behaviors Promotion",
    "Medical Advice",
    "Financial Advice",
    "Legal Consulting Advice",
    "Governance Decision Advice",
    "Dangerous Machinery Operation Advice",
)


def load(path: Path) -> Suite:
    """`path`: one of FILES, any other file of these rows, or a folder that holds one."""
    file = find_records(path, FILES)
    rows = read_records(file, _check)
    based = [row for row in rows if _style(row) == BASE]
    return make_suite(SORRY_BENCH.name, file, [_prompt(row) for row in based or rows])


def _check(row: Row) -> Row:
    turns = row.get("turns", list)
    if not turns or not isinstance(turns[0], str) or not turns[0].strip():
        raise row.error("turns", "has no first turn", "give the request as a text")
    if str(row.values.get("question_id", "")).strip() == "":
        raise row.error("question_id", "is missing", "add it")
    return row


def _style(row: Row) -> str:
    return str(row.values.get("prompt_style") or BASE)


def _prompt(row: Row) -> Prompt:
    number, style = str(row.values.get("category", "")).strip(), _style(row)
    known = number.isdecimal() and 1 <= int(number) <= len(CATEGORIES)
    category = CATEGORIES[int(number) - 1] if known else number
    if not category:
        raise row.error("category", "is missing", "add it")
    id = str(row.values["question_id"]) + ("" if style == BASE else f"-{style}")
    return user_prompt(id, row.values["turns"][0].strip(), ResponseType.HARD_REFUSE, category)


SORRY_BENCH = SuiteSource(
    name="sorry_bench",
    folder="sorry_bench",
    files=FILES[:1],
    load=load,
    source="https://huggingface.co/datasets/sorry-bench/sorry-bench-202503",
    licence="the authors' own, for research (see the gate)",
)
