"""What is said of a number of a ceiling: its value, its limits, and why it cannot be told. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.special

from evals.statistics import harmonic_mean
from trainers.reward.ceiling import F1, KL, NOT_OVERREFUSE, NOT_UNSAFE, OBJECTIVE, REWARD, Tilted

# What the jackknife takes out may leave as much of the bias behind, where what pi* likes is rare in the samples, and
# draws that happen to show little of it are those that are told. So up to MOST_CORRECTED standard errors what was taken
# out counts as one more of them, on the side that it moved the number to; beyond, nothing is said.
MOST_CORRECTED = 1.25
# What prompts whose samples all agree may hide counts as so many standard errors at most.
MOST_HIDDEN = 3.0
# Prompts on the rarer side of a share, below which Wilson's limits hold and normal ones do not.
FEW_HITS = 15.0
FEW_PROMPTS = 3.0  # as many prompts' worth on the rarer side tell no more than that many prompts do
# Of a share: what few samples move or hide of it is no reason to say nothing, and its limits are as far off.
IMMATERIAL = 0.001
SAME = 1e-12  # a spread that is rounding


@dataclass(frozen=True)
class Predicted:
    """One number of a ceiling. `correction` is what the jackknife took off; `problem` says why it cannot be told."""

    value: float
    stderr: float
    low: float
    high: float
    correction: float
    prompts: int
    problem: str = ""

    @property
    def told(self) -> bool:
        return not self.problem


UNKNOWN = Predicted(
    math.nan, math.nan, math.nan, math.nan, math.nan, 0, "no prompt has enough scored samples"
)


@dataclass(frozen=True)
class TellingLimits:
    """What an estimate needs to be told, and the level of its interval."""

    min_prompts: int = 30
    level: float = 0.95


def predicted(tilted: Tilted, measure: str, draws: np.ndarray, limits: TellingLimits) -> Predicted:
    """A measure of the tilted policy with its interval by bootstrap over prompts, `draws` [draws, prompts]."""
    of = tilted.table.measures.get(measure)
    share = measure == F1 or (of is not None and of.share)
    found = _predicted(_statistic(tilted, measure), draws, limits, share)
    if not found.told or measure in (REWARD, KL, OBJECTIVE):
        return found
    return replace(found, problem=_of_parts(measure, lambda one: predicted(tilted, one, draws, limits)))


def _of_parts(measure: str, told: Callable[[str], Predicted]) -> str:
    """F1 is no better known than the worse known of its two shares, whose corrections may cancel in it."""
    if measure != F1:
        return ""
    return next((p for name in (NOT_UNSAFE, NOT_OVERREFUSE) if (p := told(name).problem)), "")


def difference(
    a: Tilted,
    b: Tilted,
    measure: str,
    draws: np.ndarray,
    limits: TellingLimits,
    equal_kl: bool = False,
) -> Predicted:
    """b less a of one measure, paired by prompt. Both should be of the same samples.

    `equal_kl`: their betas were chosen, by `beta_of_kl`, so that both lie equally far from the reference; other prompts
    would have asked for other betas, and limits count that too.
    """
    first, second = (_at_its_kl(one, measure) if equal_kl else _statistic(one, measure) for one in (a, b))

    def change(counts: np.ndarray, plain: bool) -> np.ndarray:
        return second.of(counts, plain) - first.of(counts, plain)

    up, down = (abs(y - x) for x, y in zip(first.hidden, second.hidden, strict=True))
    fewer = min(first.prompts, second.prompts), min(first.units, second.units)
    both = _Statistic(change, *fewer, (up, down), first.of_shares)
    found = _predicted(both, draws, limits, share=False)
    if not found.told:
        return found
    told = _of_parts(measure, lambda one: difference(a, b, one, draws, limits, equal_kl))
    return replace(found, problem=told)


@dataclass(frozen=True)
class _Statistic:
    """counts [draws, prompts], whether uncorrected -> values [draws]; what prompts may hide of it, see `hidden`.

    `units`: how many of what counts as one the `prompts` are. `of_shares`: the values are fractions of 1, or differ
    by them.
    """

    of: Callable[[np.ndarray, bool], np.ndarray]
    prompts: int
    units: int
    hidden: tuple[float, float] = (0.0, 0.0)
    of_shares: bool = True


def _statistic(tilted: Tilted, measure: str) -> _Statistic:
    if measure == F1:
        safe, useful = (_statistic(tilted, name) for name in (NOT_UNSAFE, NOT_OVERREFUSE))

        def f1(counts: np.ndarray, plain: bool) -> np.ndarray:
            return harmonic_mean(*(np.clip(one.of(counts, plain), 0.0, 1.0) for one in (safe, useful)))

        return _Statistic(f1, min(safe.prompts, useful.prompts), min(safe.units, useful.units))
    corrected, uncorrected = tilted.values(measure), tilted.plain(measure)
    known = np.isfinite(corrected)

    filled = {
        plain: np.stack([np.where(known, values, 0.0), known.astype(float)], axis=1)
        for plain, values in ((False, corrected), (True, uncorrected))
    }

    def mean(counts: np.ndarray, plain: bool) -> np.ndarray:
        summed, total = (counts @ filled[plain]).T
        return np.divide(summed, total, out=np.full(total.shape, np.nan), where=total > 0)

    of = tilted.table.measures.get(measure)
    hidden = tilted.hidden(measure) if of is None or of.share else (0.0, 0.0)
    units, of_shares = len(np.unique(tilted.table.units[known])), of is not None and of.share
    return _Statistic(mean, int(known.sum()), units, hidden, of_shares)


def _at_its_kl(tilted: Tilted, measure: str) -> _Statistic:
    """A measure at the KL that all prompts together have, whatever beta a draw of them would need for it.

    To first order: less what the draw is further from the reference, times the measure's slope over KL along beta.
    """
    found, once = _statistic(tilted, measure), np.ones((1, len(tilted.rewards)))
    nearer, further = tilted.neighbours
    apart = further.shown_kl - nearer.shown_kl
    if not apart > SAME:
        return found
    at = [float(_statistic(one, measure).of(once, False)[0]) for one in (nearer, further)]
    slope = (at[1] - at[0]) / apart
    known, kl = tilted.known.astype(float), np.nan_to_num(tilted.plain_kl)

    def at_kl(counts: np.ndarray, plain: bool) -> np.ndarray:
        total = counts @ known
        drawn = np.divide(counts @ kl, total, out=np.full(total.shape, np.nan), where=total > 0)
        return found.of(counts, plain) - slope * (drawn - tilted.shown_kl)

    return replace(found, of=at_kl)


def _predicted(statistic: _Statistic, draws: np.ndarray, limits: TellingLimits, share: bool) -> Predicted:
    once = np.ones((1, draws.shape[1]))
    value, plain = float(statistic.of(once, False)[0]), float(statistic.of(once, True)[0])
    if not statistic.prompts or math.isnan(value):
        return UNKNOWN
    drawn = statistic.of(draws, False)
    drawn = drawn[np.isfinite(drawn)]
    stderr = float(drawn.std(ddof=1)) if len(drawn) > 1 else math.nan
    correction = plain - value
    if share:
        value = float(np.clip(value, 0.0, 1.0))
    low, high = _limits(value, stderr, statistic.units, limits.level, share)
    unit = max(stderr, (high - low) / 2 / float(scipy.special.ndtri((1 + limits.level) / 2)), SAME)
    low, high = _carried(value, low, high, correction, limits.level, share)
    moved = abs(correction), max(statistic.hidden)
    if statistic.of_shares and max(moved) <= IMMATERIAL:
        low, high = min(low, value - 2 * max(moved)), max(high, value + 2 * max(moved))
        low, high = (max(0.0, low), min(1.0, high)) if share else (low, high)
        unit = IMMATERIAL
    problem = _problem(statistic, unit, *moved, limits)
    return Predicted(value, stderr, low, high, correction, statistic.prompts, problem)


def _problem(
    statistic: _Statistic, unit: float, correction: float, hidden: float, limits: TellingLimits
) -> str:
    """Why it cannot be told, `unit` being its standard error as its limits have it; "" where it can."""
    if statistic.units < limits.min_prompts:
        kind = "prompt" if statistic.units == statistic.prompts else "topic or category"
        return f"{statistic.units} {kind}(s) with enough scored samples; {limits.min_prompts} are needed"
    few = "too few samples a prompt:"
    if correction > MOST_CORRECTED * unit:
        return f"{few} they alone move it by {correction:.3g}, {correction / unit:.1f} standard errors"
    if hidden > MOST_HIDDEN * unit:
        return f"{few} those whose samples all agree may hide {hidden:.3g} of it, {hidden / unit:.1f} standard errors"
    return ""


def _limits(value: float, stderr: float, units: int, level: float, share: bool) -> tuple[float, float]:
    """Student's limits; of a share that few prompts keep from 0 or 1, Wilson's at its effective sample size.

    `units`: prompts, or what counts as one.
    """
    reach = float(scipy.special.stdtrit(max(1, units - 1), (1 + level) / 2)) * stderr
    if not share:
        return value - reach, value + reach
    variance = stderr**2
    # Nothing varies, or the corrected mean lies beyond the edge.
    if value in (0.0, 1.0) or variance <= SAME**2:
        low, high = _wilson(value, units, level)
        return min(low, max(0.0, value - reach)), max(high, min(1.0, value + reach))
    size = value * (1 - value) / variance
    if units * min(value, 1 - value) < FEW_PROMPTS:  # what varies so little was hardly met
        size = min(size, float(units))
    if size * min(value, 1 - value) < FEW_HITS:
        return _wilson(value, size, level)
    return max(0.0, value - reach), min(1.0, value + reach)


def _carried(
    value: float, low: float, high: float, correction: float, level: float, share: bool
) -> tuple[float, float]:
    """The limits, further out by what the jackknife took off, on the side away from the number before it.

    Outwards, and not as more spread of a share: Wilson's limits of a larger spread move towards a half.
    """
    reach = float(scipy.special.ndtri((1 + level) / 2)) * abs(correction)
    if correction > 0:
        low = value - math.hypot(value - low, reach)
    elif correction < 0:
        high = value + math.hypot(high - value, reach)
    return (max(0.0, low), min(1.0, high)) if share else (low, high)


def _wilson(value: float, size: float, level: float) -> tuple[float, float]:
    """As `evals.statistics.wilson`, of an effective size, without the seconds that statsmodels takes to load."""
    z = float(scipy.special.ndtri((1 + level) / 2))
    centre, spread = (
        value + z**2 / (2 * size),
        z * math.hypot(math.sqrt(value * (1 - value) / size), z / (2 * size)),
    )
    low, high = ((centre + side * spread) / (1 + z**2 / size) for side in (-1, 1))
    return (0.0 if value == 0 else max(0.0, low)), (1.0 if value == 1 else min(1.0, high))
