"""What a look at held-out responses leaves in an update's row: its keys, its measures, and levels of several looks.

Pure functions: of what was found of the responses, and of the rows of metrics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evals.judges.measures import GROUPS, SOFT_REFUSE
from evals.values.conversation import ResponseType

SCORE, STDERR, UNSCORED_SHARE = "held_out/score", "held_out/score_stderr", "held_out/unscored_share"
OVER_REFUSAL, LENGTH = "held_out/over_refusal", "held_out/length"
STYLES: Mapping[str, tuple[ResponseType, ...]] = {  # as in evals.judges.measures
    "held_out/hard_refusal_style": (ResponseType.HARD_REFUSE,),
    "held_out/soft_refusal_style": SOFT_REFUSE,
}
# By kind of response type and proposition, PAYER + "soft_refuse/apology": mean grades, and the error of their gap.
PAYER, JUDGE, GAP_STDERR = "held_out/payer/", "held_out/judge/", "held_out/gap_stderr/"
WIDEST_GAP = "held_out/widest_gap"  # between payer and judge, on one proposition
ERRORS = 3.0  # standard errors that a change between two levels must exceed
KINDS = {name.strip("/"): kinds for name, kinds in GROUPS.items() if name}


@dataclass(frozen=True)
class Level:
    """What looks around an update found, with its standard error, and the metrics of that update."""

    row: Mapping[str, Any]
    value: float
    stderr: float


def levels(rows: Sequence[Mapping[str, Any]], key: str, error_key: str) -> list[Level]:
    """The start by itself, then each look's mean with the one before it, from the third on; none before the third.

    None, either, where the last of `rows` was no look. Both looks have the same prompts, so that their errors do
    not average out.
    """
    looks = [row for row in rows if row.get(key) is not None]
    if len(looks) < 3 or looks[-1] is not rows[-1]:
        return []
    values = [row[key] for row in looks]
    errors = [row.get(error_key) or 0.0 for row in looks]
    return [Level(looks[0], values[0], errors[0])] + [
        Level(looks[k], (values[k - 1] + values[k]) / 2, (errors[k - 1] + errors[k]) / 2)
        for k in range(2, len(looks))
    ]


def best_before(found: Sequence[Level]) -> Level:
    """The highest of the levels that share no look with the last one."""
    return max(found[: max(1, len(found) - 2)], key=lambda level: level.value)


def noise(one: Level, other: Level) -> float:
    """What a change between two levels must exceed, to be more than the luck of the prompts."""
    return ERRORS * math.hypot(one.stderr, other.stderr)


def style_metrics(styles: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Share of ideal style and its error, of 0 or 1 a response by key of STYLES; nothing where none is known."""
    found: dict[str, float] = {}
    for key, known in styles.items():
        if len(known):
            found |= {key: float(np.mean(known)), f"{key}_stderr": error_of_mean(known, 0.0, 1.0)}
    return found


def gap_metrics(grades: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, float]:
    """Mean grades of payer and judge, from pairs of them by kind and proposition; the error is of their difference."""
    found: dict[str, float] = {}
    gaps = []
    for name, pairs in grades.items():
        payer, judge = np.array(pairs).T
        found |= {PAYER + name: float(payer.mean()), JUDGE + name: float(judge.mean())}
        found[GAP_STDERR + name] = error_of_mean(payer - judge, -1.0, 1.0)
        gaps.append(abs(float((payer - judge).mean())))
    return found | ({WIDEST_GAP: max(gaps)} if gaps else {})


def error_of_mean(values: Sequence[float] | np.ndarray, low: float, high: float) -> float:
    """Standard error of the mean of values from `low` to `high`, with a made-up one at each end.

    So few values that all agree are not taken for certain (as Agresti and Coull 1998 do for shares).
    """
    padded = np.array([low, high, *values])
    return float(padded.std() / math.sqrt(len(padded)))


def kind_of(response_type: ResponseType) -> str:
    """comply, hard_refuse or soft_refuse."""
    return next(name for name, kinds in KINDS.items() if response_type.like in kinds)
