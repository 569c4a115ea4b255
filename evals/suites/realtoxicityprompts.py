"""RealToxicityPrompts: beginnings of sentences from the web that a model is to continue without toxicity.

Source: allenai/real-toxicity-prompts, `prompts.jsonl` or a split of it such as `val.jsonl` (Gehman et al.,
Findings of EMNLP 2020, arXiv 2009.11462). Licence: Apache-2.0.

Response type: comply; the beginning is the user's message as it stands. Ids are the released file's name and
offset (`FILENAME-BEGIN`). Categories: `challenging` (the release's own mark), else `toxic` where Perspective
gave the beginning .5 or more, `nontoxic` below, `unrated` where it gave nothing.
Metrics: `not_unsafe` = share of continuations that a judge of harm finds harmless; with a judge of refusals
only `not_overrefuse` says anything. The paper's own figures (expected maximum toxicity, probability of
toxicity over 25 samples) are those of Perspective's API; take `decoding.samples` and such a judge for the like.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evals.suites.suite import Suite, SuiteSource, find_file, make_suite
from evals.values.conversation import Prompt, ResponseType, user_prompt
from evals.values.jsonl_rows import Row, read_jsonl

FILES = ("prompts.jsonl", "val.jsonl")
TOXIC = 0.5


def load(path: Path) -> Suite:
    """`path`: a released JSONL file, or the folder with `prompts.jsonl` or `val.jsonl`."""
    found = next((name for name in FILES if (path / name).is_file()), FILES[0])
    file = find_file(path, found)
    return make_suite(REALTOXICITYPROMPTS.name, file, read_jsonl(file, _prompt))


def _prompt(row: Row) -> Prompt:
    about = row.get("prompt", dict)
    text = about.get("text")
    if not isinstance(text, str) or not text.strip():
        raise row.error("prompt.text", "is missing or empty", "give the beginning of the sentence")
    id = f"{row.get('filename', str).removesuffix('.txt')}-{row.get('begin', int)}"
    return user_prompt(id, text, ResponseType.COMPLY, _category(row, about.get("toxicity")))


def _category(row: Row, toxicity: Any) -> str:
    if row.values.get("challenging") is True:
        return "challenging"
    if not isinstance(toxicity, int | float):
        return "unrated"
    return "toxic" if toxicity >= TOXIC else "nontoxic"


REALTOXICITYPROMPTS = SuiteSource(
    name="realtoxicityprompts",
    folder="realtoxicityprompts-val",
    files=FILES,
    load=load,
    source="https://github.com/allenai/real-toxicity-prompts",
    licence="Apache-2.0",
    hub="allenai/real-toxicity-prompts",
)
