"""`to_label.csv`: responses for people to label, drawn at random and in an order that does not tell the model.

As many of each model on each suite, by seed. A text that several gave to one prompt stands once, and its `probability`
is that of being drawn for any of them, by which the judge `human` weighs its label. The columns are those that this
judge reads, and `final_label` is empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

FILE = "to_label.csv"
COLUMNS = ("suite", "id", "prompt", "completion", "final_label", "probability")


class Written(NamedTuple):
    """What a model wrote to a prompt of a suite; the prompt's text as a person reads it."""

    suite: str
    id: str
    prompt: str
    text: str


def to_label(answers: Mapping[str, Sequence[Written]], count: int, seed: int) -> list[dict[str, object]]:
    """Rows of COLUMNS: `count` distinct texts of each model on each suite, or all where there are fewer."""
    rng = np.random.default_rng([seed, 21])
    missed: dict[Written, float] = {}  # the probability that no model's draw has it
    drawn: set[Written] = set()
    for model in sorted(answers):
        for suite in sorted({answer.suite for answer in answers[model]}):
            own = sorted({answer for answer in answers[model] if answer.suite == suite and answer.text})
            some = min(count, len(own))
            drawn |= {own[i] for i in rng.permutation(len(own))[:some]}
            for answer in own:
                missed[answer] = missed.get(answer, 1.0) * (1 - some / len(own))
    order = sorted(drawn)
    return [
        dict(zip(COLUMNS, (*order[i], "", round(1 - missed[order[i]], 6)), strict=True))
        for i in rng.permutation(len(order))
    ]
