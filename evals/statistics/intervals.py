"""Intervals of proportions, of their harmonic mean and of means over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy

NAN = float("nan")


class Interval(NamedTuple):
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error, its interval and the number of observations behind it."""

    value: float
    stderr: float
    low: float
    high: float
    n: int


def wilson(hits: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's score interval. `n` may be an effective sample size; n = 0 gives NaN."""
    return proportion_interval(hits, n, level, "wilson")


def jeffreys(hits: float, n: float, level: float = 0.95) -> Interval:
    """Jeffreys' interval, up to 0 without a hit and up to 1 without a miss (Brown, Cai and DasGupta, Stat. Sci. 16,
    2001): shorter than Wilson's near the edges. n = 0 gives NaN.
    """
    return proportion_interval(hits, n, level, "jeffreys")


def proportion_interval(hits: float, n: float, level: float, method: str) -> Interval:
    if n == 0:
        return Interval(NAN, NAN)
    from statsmodels.stats.proportion import proportion_confint  # seconds, which few commands need

    low, high = proportion_confint(hits, n, alpha=1 - level, method=method)
    # statsmodels returns 1 - 1e-16 or the like at the edges, which would print as a limit below the value.
    return Interval(0.0 if hits == 0 else float(low), 1.0 if hits == n else float(high))


def harmonic_mean(first: np.ndarray | float, second: np.ndarray | float) -> np.ndarray:
    """F1 of two shares, elementwise: 0 where both are 0, NaN where one is NaN."""
    total = np.asarray(first, dtype=float) + np.asarray(second, dtype=float)
    product = np.asarray(first, dtype=float) * np.asarray(second, dtype=float)
    return np.divide(2 * product, total, out=np.where(np.isnan(total), np.nan, 0.0), where=total > 0)


def error_of(low: float, high: float, level: float = 0.95) -> float:
    """The standard error that a normal interval of this level, as wide as `low` to `high`, has."""
    return (high - low) / (2 * float(scipy.stats.norm.ppf((1 + level) / 2)))


def standard_error(values: np.ndarray) -> float:
    """std / sqrt(n) of the values that are not NaN; NaN for fewer than two."""
    kept = values[~np.isnan(values)]
    if len(kept) < 2:
        return NAN
    stderr = float(kept.std(ddof=1) / math.sqrt(len(kept)))
    # Equal values have a std of some 1e-17 by rounding, and 1e15 standard errors are no finding.
    return 0.0 if stderr <= 1e-12 * float(np.abs(kept).max()) else stderr


def mean_estimate(values: Sequence[float] | np.ndarray, level: float = 0.95) -> Estimate:
    """Mean over seeds, standard error std / sqrt(n) and Student's t interval; NaN of both when n = 1.

    NaN values are left out and not counted.
    """
    kept = np.asarray(values, dtype=float)
    kept = kept[~np.isnan(kept)]
    if len(kept) == 0:
        return Estimate(NAN, NAN, NAN, NAN, 0)
    mean = float(kept.mean())
    if len(kept) == 1:
        return Estimate(mean, NAN, NAN, NAN, 1)
    stderr = standard_error(kept)
    reach = float(scipy.stats.t.ppf((1 + level) / 2, len(kept) - 1)) * stderr
    return Estimate(mean, stderr, mean - reach, mean + reach, len(kept))
