"""The RBR gold set: completions with the truth of 23 propositions, labelled by people.

Source: openai/safety-rbr-code-and-data, `data/rbr_gold_data/train.jsonl` and
`config/proposition_prompts.yaml` (Mu et al., NeurIPS 2024, arXiv 2411.01111). Licence: MIT.

The set has one completion a prompt (351 completions of 350 prompts) and was drawn to test graders: none of
its 155 refusals is ideal, and all 9 completions of `safe_refuse_1` are unacceptable. `synthetic.py` says how
comparisons are made nevertheless.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from evals.rules.rulebook import Rulebook
from evals.values.conversation import LabelledResponse
from evals.values.errors import InputError
from evals.values.jsonl_rows import Row, read_jsonl
from harness.worlds.sources.sample import sample

FILE = "openai-rbr/train.jsonl"
RULEBOOK = "openai-rbr/proposition_prompts.yaml"


def load(
    root: Path, rulebook: Rulebook, *, limit: int | None = None, seed: int = 0
) -> list[LabelledResponse]:
    """Labelled responses with their completion class. `rulebook` must have the file's propositions.

    Raises InputError, naming file, line and field, for unknown or missing propositions, a row without a
    response type, and a prompt that does not end with the user.
    """
    return sample(read_jsonl(root / FILE, lambda row: _with_class(row, rulebook)), limit, seed)


def _with_class(row: Row, rulebook: Rulebook) -> LabelledResponse:
    labelled = row.labelled(list(rulebook.propositions), rulebook.levels)
    prompt = labelled.response.prompt
    if prompt.response_type is None:
        raise row.error("response_type", "is missing", "add it")
    if prompt.messages[-1].role != "user":
        raise row.error("prompt", "does not end with the user", "end it with the user's turn")
    return replace(labelled, completion_class=rulebook.class_of(prompt.response_type, labelled.propositions))


def split_by_prompt(
    rows: Sequence[LabelledResponse], shares: Mapping[str, float], seed: int
) -> dict[str, list[LabelledResponse]]:
    """Divide rows so that no prompt is in two parts, with each response type, completion class and category
    spread over the parts in proportion.

    `shares` maps part to its share of the prompts; they sum to 1. Raises InputError when they do not.
    """
    if abs(sum(shares.values()) - 1.0) > 1e-9 or min(shares.values()) < 0:
        raise InputError(
            f"the shares sum to {sum(shares.values()):g}", fix="give shares of 0 or more that sum to 1"
        )
    rng = np.random.default_rng([seed, 1])
    kinds = {row.response.prompt.id: _kind(row) for row in rows}
    drawn = [list(kinds)[i] for i in rng.permutation(len(kinds))]
    part_of: dict[str, str] = {}
    given = dict.fromkeys(shares, 0)
    for count, id in enumerate(sorted(drawn, key=kinds.__getitem__), start=1):
        # The part furthest behind its share comes next: neighbours, being alike, are dealt out evenly.
        part = max(shares, key=lambda name: shares[name] * count - given[name])
        part_of[id] = part
        given[part] += 1
    return {part: [row for row in rows if part_of[row.response.prompt.id] == part] for part in shares}


def _kind(row: LabelledResponse) -> tuple[str, str, str]:
    prompt = row.response.prompt
    return str(prompt.response_type), str(row.completion_class), prompt.category
