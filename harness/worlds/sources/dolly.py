"""Dolly: instructions and answers written by people, for supervised fine-tuning on helpfulness.

Source: databricks-dolly-15k through SalesforceAIResearch/MobileAIBench, `databricks_dolly_1k_sample.csv`
(1,000 of 15,011 rows, all of them closed questions about a passage). Licence: CC-BY-SA-3.0.
"""

from __future__ import annotations

from pathlib import Path

from evals.values.conversation import Demonstration, user_prompt
from evals.values.csv_rows import filled, read_csv
from evals.values.jsonl_rows import Row
from harness.worlds.sources.sample import sample

FILE = "dolly-1k/databricks_dolly_1k_sample.csv"


def load(root: Path, *, limit: int | None = None, seed: int = 0) -> list[Demonstration]:
    """The user's message is the instruction, and below it the passage where there is one."""
    rows = read_csv(root / FILE, ("instruction", "context", "response", "category"))
    return sample([_demonstration(row) for row in rows], limit, seed)


def _demonstration(row: Row) -> Demonstration:
    parts = (filled(row, "instruction"), str(row.values["context"]).strip())
    text = "\n\n".join(part for part in parts if part)
    prompt = user_prompt(f"dolly-{row.line}", text, category=filled(row, "category"))
    return Demonstration(prompt, filled(row, "response"))
