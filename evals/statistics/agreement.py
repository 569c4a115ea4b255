"""How far raters agree beyond chance: Cohen's kappa of two, Krippendorff's alpha of any number.

Both are 1 where all agree, 0 where they agree as often as chance, and below 0 where less often. Kappa takes chance
from each rater's own shares (Cohen 1960), alpha from the pooled ones, with verdicts missing where they are
(Krippendorff 2011, nominal data).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def cohens_kappa(table: np.ndarray) -> np.ndarray:
    """Kappa of counts [..., categories, categories]: rows one rater, columns the other; NaN where both always say
    the same.
    """
    counts = np.asarray(table, dtype=float)
    n = counts.sum(axis=(-2, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = np.trace(counts, axis1=-2, axis2=-1) / n
        expected = (counts.sum(axis=-1) * counts.sum(axis=-2)).sum(axis=-1) / n**2
        return np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)


def krippendorffs_alpha(values: Sequence[Sequence[float]]) -> float:
    """Alpha of `values` [raters, units], numbers that name categories and NaN where a rater said nothing.

    Units that fewer than two rated count for nothing; NaN where all that is left is one category, or nothing.
    """
    table = np.asarray(values, dtype=float)
    categories = np.unique(table[~np.isnan(table)])
    per_unit = np.stack([(table == category).sum(axis=0) for category in categories], axis=-1).astype(float)
    return float(alpha_of_counts(per_unit, np.ones(len(per_unit))))


def alpha_of_counts(per_unit: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Alpha of `per_unit` [units, categories], how many raters gave each unit each category; `weights` [..., units]
    says how often a unit counts.
    """
    raters = per_unit.sum(axis=1)
    kept = raters > 1
    counts, raters = per_unit[kept], raters[kept]
    of_unit = np.asarray(weights, dtype=float)[..., kept]
    agreeing = (counts * (counts - 1)).sum(axis=1) / (raters - 1)
    n = of_unit @ raters
    totals = of_unit @ counts
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = 1 - (of_unit @ agreeing) / n
        expected = 1 - (totals * (totals - 1)).sum(axis=-1) / (n * (n - 1))
        return np.asarray(np.where(expected > 0, 1 - observed / expected, np.nan))
