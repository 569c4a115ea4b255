"""Fronts of safety and usefulness: what a swept number can reach, and two of them held against each other. Pure.

Between two models of a front a person may have any mixture of them, so that a front is the line through its best
points. Points are [n, 2]: safety, usefulness; fractions of 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evals.statistics.resampling import percentiles

REFERENCE = (0.0, 0.0)  # of the hypervolume: nothing is safe and all is refused
DRAWS = 1000
STEPS = 101  # places of equal safety at which two fronts are compared


def pareto(points: np.ndarray) -> list[int]:
    """The places of the points that no other beats on both axes, from the least safe on; of equal points the first."""
    kept = []
    for i, point in enumerate(points):
        no_worse = (points >= point).all(axis=1)
        better = no_worse & (points > point).any(axis=1)
        same_before = (points[:i] == point).all(axis=1).any()
        if not better.any() and not same_before and not np.isnan(point).any():
            kept.append(i)
    return sorted(kept, key=lambda i: tuple(points[i]))


def hypervolume(points: np.ndarray, reference: tuple[float, float] = REFERENCE) -> float:
    """The area that the points dominate above the reference point; NaN without a point."""
    front = points[pareto(points)][::-1]  # safest first, usefulness rises
    if not len(front):
        return math.nan
    area, floor = 0.0, reference[1]
    for safety, useful in front:
        area += max(0.0, safety - reference[0]) * max(0.0, useful - floor)
        floor = max(floor, useful)
    return float(area)


def gap(first: np.ndarray, second: np.ndarray) -> float:
    """Usefulness of the first front minus that of the second at equal safety, the mean over the range of both.

    NaN where they have no safety in common.
    """
    fronts = [points[pareto(points)] for points in (first, second)]
    if not all(map(len, fronts)):
        return math.nan
    low, high = max(front[0, 0] for front in fronts), min(front[-1, 0] for front in fronts)
    if not low < high:
        return math.nan
    at = np.linspace(low, high, STEPS)
    mine, theirs = (np.interp(at, front[:, 0], front[:, 1]) for front in fronts)
    return float((mine - theirs).mean())


@dataclass(frozen=True)
class FrontGap:
    """`value` with its 95 % interval; NaN where the fronts have no safety in common: cannot tell.

    `told` is the share of the draws that have a common range: an interval of few of them is none.
    """

    value: float
    low: float
    high: float
    told: float

    @property
    def decided(self) -> bool:
        return self.told > 0.95 and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Answers:
    """Of one seed. `said` [models, prompts, 2]: is it safe, and is it answered; NaN where one is not asked or known.

    `units` names what each prompt errs together with, its topic perhaps; empty where each counts by itself.
    """

    said: np.ndarray
    units: Sequence[str] = ()

    @cached_property
    def members(self) -> list[np.ndarray]:
        """The places of each unit's prompts."""
        if not len(self.units):
            return [np.array([place]) for place in range(self.said.shape[1])]
        of = np.unique(np.asarray(self.units), return_inverse=True)[1].reshape(-1)
        return [np.flatnonzero(of == unit) for unit in range(of.max() + 1)]

    @property
    def points(self) -> np.ndarray:
        """[models, 2]."""
        return np.nanmean(self.said, axis=1)


BySeed = Mapping[int, Answers]


def compare_fronts(first: BySeed, second: BySeed, seed: int, draws: int = DRAWS) -> FrontGap:
    """Paired by seed and by prompt: each draw takes seeds, and prompts (or their units), anew for both fronts.

    Of one seed prompts alone are drawn. Prompts of all seeds are the same or, by seed, other ones. Both fronts have
    the same prompts of a seed.
    """
    common = sorted({*first} & {*second})
    if not common:
        return FrontGap(math.nan, math.nan, math.nan, 0.0)
    rng = np.random.default_rng(seed)
    value = gap(_points(first, common), _points(second, common))
    found = np.array([gap(*_drawn((first, second), common, rng)) for _ in range(draws)])
    known = found[~np.isnan(found)]
    if math.isnan(value) or not known.size:
        return FrontGap(math.nan, math.nan, math.nan, known.size / draws)
    return FrontGap(value, *percentiles(known), known.size / draws)


def _points(answers: BySeed, seeds: Sequence[int]) -> np.ndarray:
    """[models, 2], the mean over seeds."""
    return np.mean([answers[seed].points for seed in seeds], axis=0)


def _drawn(
    fronts: tuple[BySeed, BySeed], seeds: Sequence[int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    chosen = [seeds[i] for i in rng.integers(len(seeds), size=len(seeds))]
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for seed in chosen:
        members = fronts[0][seed].members
        prompts = np.concatenate([members[unit] for unit in rng.integers(len(members), size=len(members))])
        for points, answers in zip(found, fronts, strict=True):
            points.append(np.nanmean(answers[seed].said[:, prompts], axis=1))
    return np.mean(found[0], axis=0), np.mean(found[1], axis=0)
