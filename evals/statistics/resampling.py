"""Bootstrap clustered by prompt: one prompt's responses stay together, by sample and by checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy

from evals.statistics.intervals import NAN, Estimate, Interval, wilson


def resample_counts(strata: Sequence[object], draws: int, rng: np.random.Generator) -> np.ndarray:
    """How often each cluster is drawn: [draws, clusters], resampled within each stratum.

    A suite fixes how many prompts it has of each response type; so does every draw.
    """
    labels = np.array([str(s) for s in strata])
    counts = np.zeros((draws, len(labels)))
    for stratum in sorted(set(labels.tolist())):
        members = np.flatnonzero(labels == stratum)
        size = len(members)
        picked = rng.integers(size, size=(draws, size)) + size * np.arange(draws)[:, None]
        counts[:, members] = np.bincount(picked.ravel(), minlength=draws * size).reshape(draws, size)
    return counts


def cluster_shares(counts: np.ndarray, hits: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Resampled shares [draws, checkpoints] of hits among scored, both [clusters, checkpoints]."""
    total = counts @ scored
    return np.divide(counts @ hits, total, out=np.full(total.shape, np.nan), where=total > 0)


NO_VARIANCE = 1e-20  # equal F1s have one of some 1e-32 by rounding, which would pass for certainty


class Spread(NamedTuple):
    """Variance of an estimate and the degrees of freedom behind that variance."""

    variance: float
    freedom: float


def percentiles(drawn: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of the draws that are known; NaN where none is."""
    known = drawn[np.isfinite(drawn)]
    if not len(known):
        return NAN, NAN
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)


def mean_spread(values: np.ndarray, draws: np.ndarray, clusters: int) -> Spread:
    """Spread of the mean over checkpoints of `values` [checkpoints], counting prompts and checkpoints.

    `draws` [draws, checkpoints] are the same values with the prompts drawn again. Their mean's variance is
    the prompts' part. Checkpoints add what their own variance has beyond the noise of single responses,
    which the draws tell by how far each checkpoint strays from the mean. This is the two-way random-effects
    analysis of variance, MSA + MSB - MSE (Searle, Casella and McCulloch, Variance Components, 1992,
    chapter 4), with Satterthwaite's degrees of freedom. NaN checkpoints are left out.
    """
    known = ~np.isnan(values)
    values, draws = values[known], draws[:, known]
    draws = draws[~np.isnan(draws).any(axis=1)]
    k = len(values)
    if k == 0 or len(draws) < 2:
        return Spread(NAN, NAN)
    means = draws.mean(axis=1)
    of_prompts = float(means.var(ddof=1))
    if k == 1:
        return Spread(of_prompts, max(1, clusters - 1))
    between = float(values.var(ddof=1)) / k
    noise = float((draws - means[:, None]).var(axis=0, ddof=1).sum()) / (k * (k - 1))
    of_checkpoints = max(0.0, between - noise)
    total = of_prompts + of_checkpoints
    uncertainty = of_prompts**2 / max(1, clusters - 1) + (between**2 / (k - 1) if of_checkpoints else 0.0)
    return Spread(total, total**2 / uncertainty if uncertainty else max(1, clusters - 1))


def clustered_interval(value: float, spread: Spread, clusters: int, level: float = 0.95) -> Interval:
    """Interval of a share (or an F1) from the variance of its clustered bootstrap.

    Wilson's interval at the effective sample size value (1 - value) / variance, cut by the degrees of
    freedom (Korn and Graubard, Survey Methodology 24, 1998; Dean and Pagano, J. Surv. Stat. Methodol. 3,
    2015): percentile limits cover too little near 0 and 1. At 0 or 1 nothing varies; each prompt counts once.
    """
    if math.isnan(value) or math.isnan(spread.variance):
        return Interval(NAN, NAN)
    if spread.variance < NO_VARIANCE or value in (0.0, 1.0):
        return wilson(value * clusters, clusters, level)
    tail = (1 + level) / 2
    ratio = float(scipy.stats.norm.ppf(tail) / scipy.stats.t.ppf(tail, spread.freedom)) ** 2
    effective = max(1.0, ratio * value * (1 - value) / spread.variance)
    return wilson(value * effective, effective, level)


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray],
    strata: Sequence[object],
    *,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Percentile bootstrap of `statistic`: counts [draws, clusters] -> values [draws].

    The value is the statistic with each cluster once. Draws where it is undefined (NaN) are left out.
    """
    counts = resample_counts(strata, draws, np.random.default_rng(seed))
    value = float(statistic(np.ones((1, counts.shape[1])))[0])
    values = statistic(counts)
    values = values[~np.isnan(values)]
    if math.isnan(value) or not len(values):
        return Estimate(NAN, NAN, NAN, NAN, len(strata))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(values.std(ddof=1)), float(low), float(high), len(strata))
