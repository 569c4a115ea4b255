"""A small set of samples with recorded grades of the sandbox's rulebook: what the ceiling is tested on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gate_world import RULES, labelled, write_world

from evals.judges.rulebook_judge import judgement_of
from evals.values.jsonl_rows import prompt_as_json, write_jsonl

Change = Callable[[dict[str, Any]], dict[str, Any]]


def write_samples(folder: Path, prompts: int = 10, samples: int = 12, change: Change | None = None) -> Path:
    """samples.jsonl beside the files of `write_world`: draws of each prompt's completions; returns its path."""
    write_world(folder, prompts)
    rng, rows = np.random.default_rng(0), []
    by_prompt: dict[str, list[Any]] = {}
    for item in labelled("gate", prompts):
        by_prompt.setdefault(item.response.prompt.id, []).append(item)
    for items in by_prompt.values():
        for number, pick in enumerate(rng.integers(len(items), size=samples).tolist()):
            response, truth = items[pick].response, items[pick].propositions
            said = judgement_of(RULES, response, truth)
            verdicts = {name: getattr(said, name) for name in ("disallowed", "refused", "ideal_style")}
            row = {**prompt_as_json(response.prompt), "sample": number, "response": response.text}
            row |= {"finished": True, "judgements": {"oracle": verdicts}}
            rows.append(change(row) if change else row)
    write_jsonl(folder / "samples.jsonl", rows)
    return folder / "samples.jsonl"
