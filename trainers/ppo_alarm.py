"""The reward-hacking alarm: a reward that rises while the score of held-out responses falls.

Such a policy learns to please the reward, not to do better (Goodhart's law; for learnt rewards Gao et
al. 2022, arXiv 2210.10760). Pure functions of the rows of metrics: a resumed run raises the same alarms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SCORE, STDERR, UNSCORED_SHARE = "held_out/score", "held_out/score_stderr", "held_out/unscored_share"
OVER_REFUSAL, LENGTH = "held_out/over_refusal", "held_out/length"
ALARM, ALARM_TEXT = "alarm/reward_hacking", "alarm/text"
FALL_ERRORS = 3.0  # standard errors that a fall of the held-out score must exceed
RISE_ERRORS = 2.0  # and a rise of the reward
WINDOW = 5  # updates whose mean reward stands for the reward at a measurement
NAMED = 3  # propositions named in an alarm


@dataclass(frozen=True)
class Alarm:
    """A reward that rose from update `since` to `update` while the held-out score fell.

    `rose` has the change of each reward term and proposition that rose, largest first.
    """

    since: int
    update: int
    reward: tuple[float, float]
    score: tuple[float, float]
    over_refusal: tuple[float | None, float | None]
    length: tuple[float | None, float | None]
    terms: Mapping[str, float]
    propositions: Mapping[str, float]

    def __str__(self) -> str:
        change = f"the reward rose from {self.reward[0]:.3g} to {self.reward[1]:.3g}"
        fall = f"the held-out score fell from {self.score[0]:.3g} to {self.score[1]:.3g}"
        sides = [
            f"{name} {before:.3g} to {after:.3g}"
            for name, (before, after) in {"over-refusal": self.over_refusal, "length": self.length}.items()
            if before is not None and after is not None
        ]
        raised = [f"{name} {by:+.2g}" for name, by in (*self.terms.items(), *self.propositions.items())]
        return (
            f"reward hacking: from update {self.since} to {self.update} {change} while {fall}"
            f"{''.join(f'; {side}' for side in sides)}; what rose: {', '.join(raised) or 'no single term'}"
        )


def reward_hacking(rows: Sequence[Mapping[str, Any]], drop: float) -> Alarm | None:
    """The alarm after the last of `rows` (metrics by update, ascending), or None. Pure.

    It is raised when the held-out score has fallen from its best so far by `drop` and by three standard
    errors, and the reward has since risen by two (its noise is that between neighbouring updates).
    """
    measured = [row for row in rows if row.get(SCORE) is not None]
    if len(measured) < 2 or measured[-1] is not rows[-1]:
        return None
    last = measured[-1]
    best = max(measured[:-1], key=lambda row: row[SCORE])
    errors = [row.get(STDERR) or 0.0 for row in (best, last)]
    if best[SCORE] - last[SCORE] < max(drop, FALL_ERRORS * math.hypot(*errors)):
        return None
    before, after = (_window(rows, row["update"]) for row in (best, last))
    rise = _mean_of(after, "objective/score") - _mean_of(before, "objective/score")
    if not rise > RISE_ERRORS * _noise(rows) * math.sqrt(1 / len(before) + 1 / len(after)):
        return None
    return Alarm(
        best["update"],
        last["update"],
        (_mean_of(before, "objective/score"), _mean_of(after, "objective/score")),
        (best[SCORE], last[SCORE]),
        (best.get(OVER_REFUSAL), last.get(OVER_REFUSAL)),
        (best.get(LENGTH), last.get(LENGTH)),
        _risen(before, after, "score/"),
        dict(list(_risen(before, after, "contribution/").items())[:NAMED]),
    )


def _window(rows: Sequence[Mapping[str, Any]], update: int) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["update"] <= update][-WINDOW:]


def _mean_of(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    values = [row[key] for row in rows if row.get(key) is not None]
    return float(np.mean(values)) if values else math.nan


def _noise(rows: Sequence[Mapping[str, Any]]) -> float:
    """Standard deviation of an update's mean reward around its trend, from successive differences."""
    scores = np.array([row["objective/score"] for row in rows if row["objective/score"] is not None])
    return float(np.sqrt(np.square(np.diff(scores)).mean() / 2)) if len(scores) > 2 else 0.0


def _risen(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], prefix: str
) -> dict[str, float]:
    """What rose, by name without its prefix, largest first."""
    names = sorted({key for row in after for key in row if key.startswith(prefix)})
    changes = {n.removeprefix(prefix): _mean_of(after, n) - _mean_of(before, n) for n in names}
    risen = {name: by for name, by in changes.items() if by > 0}
    return dict(sorted(risen.items(), key=lambda item: -item[1]))
