"""What a run is warned or ended by: alarms from held-out looks, and limits on an update's KL and entropy.

The reward-hacking alarm: a reward that rises while the score of held-out responses falls. What the score does not
show is in `trainers.rl.partings`: a style that falls, a proposition on which payer and judge part.

A policy that hacks its reward learns to please it, not to do better (Goodhart's law; for learnt rewards Gao et
al. 2022, arXiv 2210.10760). Pure functions of the rows of metrics: a resumed run raises the same alarms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evals.values.errors import InputError
from trainers.rl.config import PPOConfig
from trainers.rl.looks import (
    LENGTH,
    OVER_REFUSAL,
    PAYER,
    SCORE,
    STDERR,
    STYLES,
    best_before,
    levels,
    noise,
)
from trainers.rl.partings import partings, style_falls

LIMIT, ROLLBACKS = "control/limit", "control/rollbacks"
ALARM, STYLE_ALARM, PARTING_ALARM = "alarm/reward_hacking", "alarm/style", "alarm/proposition"
ALARM_TEXT = "alarm/text"
TEXTS = {  # by alarm: the key of its words
    ALARM: ALARM_TEXT,
    STYLE_ALARM: "alarm/style_text",
    PARTING_ALARM: "alarm/proposition_text",
}
MAX_ROLLBACKS = 3  # then the run ends where it was rolled back to
KL_FACTOR = 2.0  # what a rollback multiplies kl_coef by, so that the same way is not taken again
RISE_ERRORS = 2.0  # standard errors that a rise of the reward must exceed
WINDOW = 5  # updates whose mean reward stands for the reward at a measurement
NAMED = 3  # propositions named in an alarm, at most


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

    It is raised when the held-out score has fallen by `drop` and by three standard errors, and the reward
    has since risen by two (its noise is that between neighbouring updates). The fall is from the best of
    the start and the means of two neighbouring measurements, to the mean of the last two: the best of
    many single measurements is mostly luck, and what follows it falls without any hacking.
    """
    found = levels(rows, SCORE, STDERR)
    if not found:
        return None
    best, now = best_before(found), found[-1]
    if best.value - now.value < max(drop, noise(best, now)):
        return None
    before, after = (_window(rows, level.row["update"]) for level in (best, now))
    rewards = _mean_of(before, "objective/score"), _mean_of(after, "objective/score")
    wavering = RISE_ERRORS * _wavering(rows) * math.sqrt(1 / len(before) + 1 / len(after))
    if not rewards[1] - rewards[0] > wavering:
        return None
    return Alarm(
        best.row["update"],
        now.row["update"],
        rewards,
        (best.value, now.value),
        (best.row.get(OVER_REFUSAL), now.row.get(OVER_REFUSAL)),
        (best.row.get(LENGTH), now.row.get(LENGTH)),
        _risen(before, after, "score/"),
        dict(list(_risen(before, after, "contribution/").items())[:NAMED]),
    )


def _window(rows: Sequence[Mapping[str, Any]], update: int) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["update"] <= update][-WINDOW:]


def _mean_of(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    values = [row[key] for row in rows if row.get(key) is not None]
    return float(np.mean(values)) if values else math.nan


def _wavering(rows: Sequence[Mapping[str, Any]]) -> float:
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


def alarm_metrics(
    before: Sequence[Mapping[str, Any]], row: Mapping[str, Any], config: PPOConfig
) -> tuple[dict[str, Any], list[str]]:
    """What `row`, which follows `before`, says of each alarm; and the words of those that are the run's first."""
    told: dict[str, Any] = {}
    first: list[str] = []
    for key, words in _raised([*before, row], config).items():
        told[key] = float(bool(words))
        if words:
            told[TEXTS[key]] = words
            first += [] if any(earlier.get(key) for earlier in before) else [words]
    return told, first


def _raised(rows: Sequence[Mapping[str, Any]], config: PPOConfig) -> dict[str, str]:
    """The words of each alarm; empty where it is not raised."""
    alarm = reward_hacking(rows, config.alarm_drop)
    raised = {ALARM: "" if alarm is None else str(alarm)}
    if any(key in rows[-1] for key in STYLES):
        raised[STYLE_ALARM] = "; ".join(map(str, style_falls(rows, config.alarm_style)))
    if any(key.startswith(PAYER) for key in rows[-1]):
        parted = partings(rows, config.alarm_gap)
        words = "; ".join(map(str, parted[:NAMED]))
        raised[PARTING_ALARM] = words and f"payer and judge part: {words}"
    return raised


def crossed_limit(metrics: Mapping[str, Any], config: PPOConfig) -> str | None:
    """The limit that an update's samples cross, in words; None where they cross none."""
    kl, entropy = metrics["objective/kl"], metrics["objective/entropy"]
    if config.kl_limit is not None and kl is not None and kl > config.kl_limit:
        return f"KL {kl:.3g} nats a response, more than kl_limit {config.kl_limit:g}"
    if config.entropy_floor is not None and entropy is not None and entropy < config.entropy_floor:
        return f"entropy {entropy:.3g} nats a token, less than entropy_floor {config.entropy_floor:g}"
    return None


def check_start(update: int, limit: str | None) -> None:
    """Raises InputError when the policy that training begins with crosses a limit: no policy is left to go to."""
    if limit is not None and update == 1:
        raise InputError(
            f"no update can be kept within the limits ({limit})",
            field="ppo.kl_limit, ppo.entropy_floor",
            fix="widen them, or lower the learning rate",
        )
