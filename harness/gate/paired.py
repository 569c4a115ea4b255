"""Paired comparison of two error rates over prompts: intervals by bootstrap, tests by sign flips, limits of a rise
by counts of prompts. Pure.

One prompt's completions were made together and are judged together, so the prompt is the unit of
everything: a draw takes whole prompts, a sign flip exchanges the two rewards on a whole prompt. Where prompts of one
topic err together, the topic is: read topic for prompt in all that follows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from evals.statistics import resample_counts

BLOCK = 4_000_000  # numbers in memory at once


@dataclass(frozen=True)
class Errors:
    """Errors of both rewards by prompt, and the trials behind them; every array is [prompts].

    A trial is one pair of completions, or one completion. A trial that one side could not score is in
    none of the three: both are judged on the same trials.
    """

    baseline: np.ndarray
    candidate: np.ndarray
    trials: np.ndarray

    @property
    def prompts(self) -> int:
        """Prompts with a trial."""
        return int(np.count_nonzero(self.trials))


@dataclass(frozen=True)
class PairedChange:
    """Error rates as shares of trials; `low` to `high` is the change's interval at the level asked for.

    `upper` is the one-sided limit of the same level: a rise above it is ruled out (the larger of the bootstrap's
    and `rise_limit`). `p_value` is one-sided, against a rise of the tolerance or less.
    """

    baseline: float
    candidate: float
    low: float
    high: float
    upper: float
    p_value: float
    prompts: int
    trials: int

    @property
    def change(self) -> float:
        return self.candidate - self.baseline


UNKNOWN = PairedChange(np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, 0, 0)  # no trial


def compare(
    groups: Sequence[Errors],
    tolerances: Sequence[float],
    strata: Sequence[object],
    *,
    draws: int = 2000,
    sign_flips: int = 10000,
    level: float = 0.95,
    seed: int = 0,
) -> list[PairedChange]:
    """Compare each group of trials; all groups run over the same prompts, drawn within `strata` [prompts].

    The interval is the bootstrap's percentiles. The test flips the sign of each prompt's excess, errors
    of the candidate less those of the baseline less tolerance times trials: exact where the excess is
    symmetric under the null, else right in the limit of many prompts, since the flips keep its variance
    (Janssen, Statistics and Probability Letters 36, 1997). A group without trials has NaN everywhere.
    """
    if not groups:
        return []
    columns = [
        np.stack([getattr(g, name) for g in groups], axis=1) for name in ("baseline", "candidate", "trials")
    ]
    a, b, n = (np.asarray(column, dtype=np.float64) for column in columns)
    changes = _bootstrap(a, b, n, strata, draws, np.random.default_rng([seed, 1]))
    p_values = _sign_flips(b - a - np.asarray(tolerances) * n, sign_flips, np.random.default_rng([seed, 2]))
    tails = [(1 - level) / 2, (1 + level) / 2, level]
    found = []
    for column, group in enumerate(groups):
        total = float(n[:, column].sum())
        if not total:
            found.append(UNKNOWN)
            continue
        drawn = changes[:, column][~np.isnan(changes[:, column])]
        low, high, upper = np.quantile(drawn, tails).tolist()
        before, after = float(a[:, column].sum() / total), float(b[:, column].sum() / total)
        p_value, upper = float(p_values[column]), max(upper, rise_limit(group, level))
        found.append(PairedChange(before, after, low, high, upper, p_value, group.prompts, round(total)))
    return found


def rise_limit(errors: Errors, level: float) -> float:
    """The one-sided limit of the rise of the error rate, from how many prompts turned wrong and how many right.

    A bootstrap cannot draw what the set lacks: where a rise of 5 points turns whole prompts, none of 40 is turned in
    one set of eight, and every resampling agrees. The trials that turned wrong, and those that turned right, are
    weighted sums of rare prompts with the gamma limits of Fay and Feuer (Stat. Med. 16, 1997), which add one unseen
    prompt of the largest weight; both are put together by square-and-add (Newcombe, Stat. Med. 17, 1998). NaN
    without a trial. The chance of a limit below the true rise: benchmarks/gate_simulation.py --limits.
    """
    total = float(errors.trials.sum())
    if not total:
        return math.nan
    change = (errors.candidate - errors.baseline) / total
    up, down, unseen = np.maximum(change, 0.0), np.maximum(-change, 0.0), float(errors.trials.max()) / total
    most = _gamma_limit(float(up.sum()) + unseen, float((up**2).sum()) + unseen**2, level)
    least = _gamma_limit(float(down.sum()), float((down**2).sum()), 1.0 - level) if down.any() else 0.0
    return float(change.sum()) + math.hypot(most - float(up.sum()), float(down.sum()) - least)


def _gamma_limit(mean: float, variance: float, quantile: float) -> float:
    """A quantile of the gamma distribution of this mean and variance."""
    return float(scipy.stats.gamma.ppf(quantile, mean**2 / variance, scale=variance / mean))


def _bootstrap(
    a: np.ndarray,
    b: np.ndarray,
    n: np.ndarray,
    strata: Sequence[object],
    draws: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Changes of the error rate [draws, groups]; NaN where a draw has no trial."""
    parts = []
    for size in _blocks(draws, len(strata)):
        counts = resample_counts(strata, size, rng)
        trials = counts @ n
        change = np.divide(counts @ (b - a), trials, out=np.full(trials.shape, np.nan), where=trials > 0)
        parts.append(change)
    return np.concatenate(parts)


def _sign_flips(excess: np.ndarray, flips: int, rng: np.random.Generator) -> np.ndarray:
    """One-sided p-values [groups] that the mean of `excess` [prompts, groups] is 0 or less."""
    observed = excess.sum(axis=0)
    slack = 1e-9 * np.abs(excess).sum(axis=0)  # equal sums may differ by rounding
    reached = np.zeros(excess.shape[1])
    for size in _blocks(flips, len(excess)):
        signs = 2.0 * rng.integers(2, size=(size, len(excess)), dtype=np.int8) - 1.0
        reached += (signs @ excess >= observed - slack).sum(axis=0)
    return (1.0 + reached) / (1.0 + flips)


def _blocks(total: int, width: int) -> Iterator[int]:
    """Sizes that sum to `total`, each at most what BLOCK allows at `width` numbers a row."""
    step = max(1, BLOCK // max(1, width))
    for start in range(0, total, step):
        yield min(step, total - start)
