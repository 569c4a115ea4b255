"""What a run is warned or ended by: the reward-hacking alarm, and limits on an update's KL and entropy.

The alarm: a reward that rises while the score of held-out responses falls.

Such a policy learns to please the reward, not to do better (Goodhart's law; for learnt rewards Gao et
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

SCORE, STDERR, UNSCORED_SHARE = "held_out/score", "held_out/score_stderr", "held_out/unscored_share"
OVER_REFUSAL, LENGTH = "held_out/over_refusal", "held_out/length"
LIMIT, ROLLBACKS = "control/limit", "control/rollbacks"
ALARM, ALARM_TEXT = "alarm/reward_hacking", "alarm/text"
MAX_ROLLBACKS = 3  # then the run ends where it was rolled back to
KL_FACTOR = 2.0  # what a rollback multiplies kl_coef by, so that the same way is not taken again
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

    It is raised when the held-out score has fallen by `drop` and by three standard errors, and the reward
    has since risen by two (its noise is that between neighbouring updates). The fall is from the best of
    the start and the means of two neighbouring measurements, to the mean of the last two: the best of
    many single measurements is mostly luck, and what follows it falls without any hacking.
    """
    measured = [row for row in rows if row.get(SCORE) is not None]
    if len(measured) < 3 or measured[-1] is not rows[-1]:
        return None
    levels = _levels(measured)
    earlier, now = levels[: max(1, len(levels) - 2)], levels[-1]
    best = max(earlier, key=lambda level: level.score)
    if best.score - now.score < max(drop, FALL_ERRORS * math.hypot(best.stderr, now.stderr)):
        return None
    before, after = (_window(rows, level.row["update"]) for level in (best, now))
    rewards = _mean_of(before, "objective/score"), _mean_of(after, "objective/score")
    noise = RISE_ERRORS * _noise(rows) * math.sqrt(1 / len(before) + 1 / len(after))
    if not rewards[1] - rewards[0] > noise:
        return None
    return Alarm(
        best.row["update"],
        now.row["update"],
        rewards,
        (best.score, now.score),
        (best.row.get(OVER_REFUSAL), now.row.get(OVER_REFUSAL)),
        (best.row.get(LENGTH), now.row.get(LENGTH)),
        _risen(before, after, "score/"),
        dict(list(_risen(before, after, "contribution/").items())[:NAMED]),
    )


@dataclass(frozen=True)
class _Level:
    """The held-out score at a measurement, and the metrics of its update."""

    row: Mapping[str, Any]
    score: float
    stderr: float


def _levels(measured: Sequence[Mapping[str, Any]]) -> list[_Level]:
    """The start by itself, then each measurement's mean with the one before it, from the third on. Both have
    the same prompts, so that their errors do not average out.
    """
    scores = [row[SCORE] for row in measured]
    errors = [row.get(STDERR) or 0.0 for row in measured]
    return [_Level(measured[0], scores[0], errors[0])] + [
        _Level(measured[k], (scores[k - 1] + scores[k]) / 2, (errors[k - 1] + errors[k]) / 2)
        for k in range(2, len(measured))
    ]


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


def alarm_metrics(
    before: Sequence[Mapping[str, Any]], row: Mapping[str, Any], drop: float
) -> tuple[dict[str, Any], bool]:
    """What `row`, which follows `before`, says of the alarm; and whether it is the run's first."""
    alarm = reward_hacking([*before, row], drop)
    if alarm is None:
        return {ALARM: 0.0}, False
    return {ALARM: 1.0, ALARM_TEXT: str(alarm)}, not any(earlier.get(ALARM) for earlier in before)


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
