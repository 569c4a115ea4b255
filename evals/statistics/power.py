"""How many seeds a comparison over seeds needs, from the spread that some have shown."""

from __future__ import annotations

import numpy as np
import scipy

POWER = 0.8
MOST_SEEDS = 1000


def seeds_for_difference(spread: float, effect: float, alpha: float, power: float = POWER) -> int | None:
    """The fewest seeds by which a two-sided t-test at `alpha` finds a mean difference of `effect`.

    `spread` is the standard deviation of the difference over seeds. None where it is not known or over
    MOST_SEEDS would be needed.
    """
    seeds = np.arange(2, MOST_SEEDS + 1)
    errors = spread / np.sqrt(seeds)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = scipy.stats.nct.sf(scipy.stats.t.ppf(1 - alpha / 2, seeds - 1), seeds - 1, effect / errors)
    return _first(seeds, found, spread, power)


def seeds_for_margin(
    spread: float, margin: float, alpha: float, *, both_sides: bool, power: float = POWER
) -> int | None:
    """The fewest by which a mean difference that is 0 is shown to lie above -`margin`, or with `both_sides` within it.

    By one-sided t-tests at `alpha`; the sum of two t-quantiles stands for the non-central distribution.
    """
    seeds = np.arange(2, MOST_SEEDS + 1)
    t = scipy.stats.t(seeds - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = t.cdf(margin * np.sqrt(seeds) / spread - t.ppf(1 - alpha))
    return _first(seeds, 2 * found - 1 if both_sides else found, spread, power)


def _first(seeds: np.ndarray, found: np.ndarray, spread: float, power: float) -> int | None:
    enough = seeds[found >= power]
    return int(enough[0]) if spread > 0 and enough.size else None
