"""What two rewards ask for among the same samples, as checks of the gate: how much less safe and useful it is.

Each is an error rate, as the gate's others: the share of unsafe, or of over-refusing, responses of the policy that the
reward asks for, and what its F1 lacks. F1 is no mean over prompts; its check is of its linear part at the two
rewards' middle (the delta method), which differs from it by less than the two differ from each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evals.statistics import harmonic_mean
from evals.values.grades import is_too_much
from harness.gate.measures import TrialGroup
from harness.gate.paired import Errors, PairedChange, compare
from harness.gate.rewards import RewardSide
from harness.keys.ceiling import CeilingConfig
from harness.keys.gate import RegressConfig
from harness.subjects.completions import CountedUnits
from harness.subjects.sample_set import SampleSet
from harness.subjects.sample_table import Learning, asked_shares, blind_problems, sample_table
from trainers.reward.ceiling import F1, NOT_OVERREFUSE, NOT_UNSAFE, SHARES, SampleTable, Tilted
from trainers.reward.ceiling_limits import TellingLimits, difference, predicted

CEILING_CHECKS = {
    NOT_UNSAFE: "unsafe_at_ceiling",
    NOT_OVERREFUSE: "overrefuse_at_ceiling",
    F1: "f1_lost_at_ceiling",
}
DRAWS = 500  # of the limits of a ceiling itself; its change has those of the gate


@dataclass(frozen=True)
class Ceilings:
    """The checks, and each side's predicted shares by name."""

    samples: SampleSet
    beta: float
    groups: Sequence[TrialGroup]
    changes: Sequence[PairedChange]
    shares: Mapping[str, Mapping[str, float]]
    unscored: Sequence[str]


def ceilings(
    samples: SampleSet, learning: Learning, sides: Mapping[str, RewardSide], config: RegressConfig
) -> Ceilings:
    """Compare the ceilings of baseline and candidate. Pure."""
    table = sample_table(samples, config.cluster)
    scored = {name: learning.rewards(samples, side.breakdown) for name, side in sides.items()}
    common = np.all([np.isfinite(one) for one in scored.values()], axis=0)
    tilted = {
        name: Tilted(table, np.where(common, one, np.nan), learning.beta) for name, one in scored.items()
    }
    a, b = tilted["baseline"], tilted["candidate"]
    limits, draws = TellingLimits(config.min_prompts, config.level), table.draws(DRAWS, config.seed)
    missing = int((~common & (samples.index >= 0)).sum())
    units = CountedUnits("prompt" if _alone(table) else "topic", tuple(map(str, table.units))).plural
    asked, groups = asked_shares(table), []
    blind = next(iter(blind_problems(samples, CeilingConfig.max_blind)), "")
    for name in asked:
        problem = difference(a, b, name, draws, limits).problem or blind
        groups.append(
            TrialGroup(CEILING_CHECKS[name], None, None, _errors(a, b, name), missing, units, problem)
        )
    strata = _strata(table)
    allowed = config.tolerance.of_ceilings
    changes = compare(
        [group.errors for group in groups],
        [allowed[name] or 0.0 for name in asked],
        strata,
        draws=config.draws,
        sign_flips=config.sign_flips,
        level=config.level,
        seed=config.seed,
    )
    shares = {
        side: {name: predicted(of, name, draws, limits).value for name in SHARES}
        for side, of in tilted.items()
    }
    return Ceilings(samples, learning.beta, groups, changes, shares, list(_too_many(samples, sides, config)))


def _alone(table: SampleTable) -> bool:
    return int(table.units.max()) + 1 == len(table.units)


def _strata(table: SampleTable) -> list[str]:
    """Of each unit, in the order of its number."""
    if not _alone(table):
        return [""] * (int(table.units.max()) + 1)
    of = dict(zip(table.units.tolist(), table.strata, strict=True))
    return [str(of[unit]) for unit in range(len(of))]


def _errors(a: Tilted, b: Tilted, name: str) -> Errors:
    """By unit, over the prompts that both know."""
    first, second = (_by_prompt(one, a, b, name) for one in (a, b))
    known = np.isfinite(first) & np.isfinite(second)
    units, size = a.table.units[known], int(a.table.units.max()) + 1
    sums = (
        np.bincount(units, weights=values, minlength=size)
        for values in (1.0 - first[known], 1.0 - second[known], np.ones(int(known.sum())))
    )
    return Errors(*sums)


def _by_prompt(of: Tilted, a: Tilted, b: Tilted, name: str) -> np.ndarray:
    """What each prompt adds to the mean [prompts]."""
    if name != F1:
        return of.values(name)
    middle = {
        n: float(np.mean([np.nanmean(one.values(n)) for one in (a, b)])) for n in (NOT_UNSAFE, NOT_OVERREFUSE)
    }
    safe, useful = middle[NOT_UNSAFE], middle[NOT_OVERREFUSE]
    total = max((safe + useful) ** 2, 1e-12)
    by_safe, by_useful = 2 * useful**2 / total, 2 * safe**2 / total
    answers = np.isfinite(of.values(NOT_OVERREFUSE))
    share = max(float(answers[np.isfinite(of.values(NOT_UNSAFE))].mean()), 1e-12)
    centred = np.where(answers, of.values(NOT_OVERREFUSE) - useful, 0.0) / share
    middle_f1 = float(harmonic_mean(safe, useful))
    return middle_f1 + by_safe * (of.values(NOT_UNSAFE) - safe) + by_useful * centred


def _too_many(samples: SampleSet, sides: Mapping[str, RewardSide], config: RegressConfig) -> Sequence[str]:
    found = []
    for name, side in sides.items():
        count = len(side.breakdown.reasons)
        if is_too_much(count, len(samples), config.max_unscored):
            why = next(iter(side.breakdown.reasons.values()))
            found.append(f"{name}, ceiling: {count} of {len(samples)} samples are unscored ({why})")
    return found
