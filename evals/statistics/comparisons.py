"""Two methods on the same seeds or prompts: paired differences, equivalence, many tests at once, power."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy

from evals.statistics.intervals import NAN, Interval, harmonic_mean, mean_estimate, standard_error
from evals.statistics.judge_error import square_and_add
from evals.values.errors import UndecidableError

EXACT_BELOW = 25  # discordant prompts


@dataclass(frozen=True)
class PairedDifference:
    """first - second over pairs; `p_value` is two-sided."""

    difference: float
    stderr: float
    low: float
    high: float
    p_value: float
    n: int


def paired_difference(
    first: Sequence[float], second: Sequence[float], level: float = 0.95
) -> PairedDifference:
    """Paired t test, one pair a seed (or a prompt). Pairs with a NaN are left out.

    Pairs that all differ by the same have no variance to test by, and are no certainty: standard error and limits
    are then NaN and the p-value is the sign test's, which two such pairs leave at .5.

    Raises UndecidableError with fewer than two pairs.
    """
    differences = _differences(first, second)
    estimate = mean_estimate(differences, level)
    if estimate.stderr == 0:
        p_value = min(1.0, 2 * _sign_test(estimate.n)) if estimate.value else 1.0
        return PairedDifference(estimate.value, NAN, NAN, NAN, p_value, estimate.n)
    p_value = float(scipy.stats.ttest_1samp(differences, 0.0).pvalue)
    return PairedDifference(estimate.value, estimate.stderr, estimate.low, estimate.high, p_value, estimate.n)


def _sign_test(n: int) -> float:
    """One-sided p-value of n signs that all agree."""
    return 0.5**n


def _differences(first: Sequence[float], second: Sequence[float]) -> np.ndarray:
    if len(first) != len(second):
        raise ValueError(f"{len(first)} values against {len(second)}: they are not pairs")
    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    differences = differences[~np.isnan(differences)]
    if len(differences) < 2:
        raise UndecidableError(f"{len(differences)} measured pair(s); a paired comparison needs at least 2")
    return differences


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided t tests: `low`, `high` is the interval of level 1 - 2 alpha that they amount to."""

    difference: float
    low: float
    high: float
    p_value: float
    margin: float
    equivalent: bool
    n: int


def equivalence(
    first: Sequence[float], second: Sequence[float], *, margin: float, alpha: float = 0.05
) -> Equivalence:
    """TOST: is the mean of first - second inside (-margin, margin)? Pairs with a NaN are left out.

    Without variance the p-value is the sign test's (see `paired_difference`) and the limits are NaN.

    Raises UndecidableError with fewer than two pairs, ValueError for a margin that is not positive.
    """
    from statsmodels.stats.weightstats import ttost_paired

    if not margin > 0:
        raise ValueError(f"the margin must be positive, not {margin}")
    differences = _differences(first, second)
    estimate = mean_estimate(differences, 1 - 2 * alpha)
    low, high = estimate.low, estimate.high
    if estimate.stderr == 0:
        p_value = _sign_test(estimate.n) if abs(estimate.value) < margin else 1.0
        low, high = NAN, NAN
    else:
        p_value = float(ttost_paired(differences, np.zeros(len(differences)), -margin, margin)[0])
    return Equivalence(estimate.value, low, high, p_value, margin, p_value < alpha, len(differences))


def mcnemar(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p-value that two models' shares are equal, from verdicts (0, 1, NaN) on the same prompts.

    The exact binomial form below EXACT_BELOW discordant prompts, else the chi-square with continuity correction.
    """
    from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    scored = ~(np.isnan(a) | np.isnan(b))
    only_first = int(np.sum(a[scored] > b[scored]))
    only_second = int(np.sum(a[scored] < b[scored]))
    table = [[0, only_first], [only_second, 0]]
    if only_first + only_second == 0:
        return 1.0
    return float(statsmodels_mcnemar(table, exact=only_first + only_second < EXACT_BELOW).pvalue)


def share_equivalence(first: Sequence[float], second: Sequence[float], *, margin: float) -> float:
    """The p-value of `equivalence`. Shares that never differ, or always by the same, have no variance to test by,
    and six equal answers would be proof: theirs is that of the adjusted interval of `paired_share_difference`.
    """
    if standard_error(_differences(first, second)) > 0:
        return equivalence(first, second, margin=margin).p_value
    found = paired_share_difference(first, second)
    return float(scipy.stats.norm.sf((margin - abs(found.difference)) / found.stderr))


def paired_share_difference(
    first: Sequence[float],
    second: Sequence[float],
    level: float = 0.95,
    clusters: Sequence[str] | None = None,
) -> PairedDifference:
    """Two models' shares on the same prompts, first - second; prompts that one of them lacks (NaN) are left out.

    Verdicts of 0 and 1: McNemar's p-value and the adjusted Wald interval of Bonett and Price (J. Educ. Behav.
    Stat. 37, 2012), which keeps a width where the two never differ. Shares of several samples a prompt: the
    paired t test over prompts, and the adjusted interval where they all differ by the same. With `clusters`, the
    topic of each prompt, say: `_by_cluster`. Raises UndecidableError with fewer than two common prompts, or clusters.
    """
    if clusters is not None:
        return _by_cluster(first, second, clusters, level)
    differences = _differences(first, second)
    if np.isin(differences, (-1.0, 0.0, 1.0)).all():
        return _adjusted_wald(differences, mcnemar(first, second), level)
    found = paired_difference(first, second, level)
    return _adjusted_wald(differences, found.p_value, level) if math.isnan(found.stderr) else found


def _by_cluster(
    first: Sequence[float], second: Sequence[float], clusters: Sequence[str], level: float
) -> PairedDifference:
    """The difference over prompts, by a t test whose observations are clusters: their sums' residuals (Liang and
    Zeger, Biometrika 73, 1986; the correction for G clusters, and G - 1 degrees of freedom). Where nothing varies,
    the adjusted interval of the clusters' means. `n` counts prompts.
    """
    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    known = ~np.isnan(differences)
    place = np.unique(np.asarray(clusters)[known], return_inverse=True)[1]
    sums, sizes = np.bincount(place, weights=differences[known]), np.bincount(place)
    count, n = len(sizes), int(known.sum())
    if count < 2:
        raise UndecidableError(f"{count} cluster(s) of prompts; a comparison by clusters needs at least 2")
    value = float(sums.sum()) / n
    squares = float(((sums - value * sizes) ** 2).sum())
    if squares < 1e-20:
        p_value = min(1.0, 2 * _sign_test(count)) if value else 1.0
        return replace(_adjusted_wald(sums / sizes, p_value, level), difference=value, n=n)
    return _t_test(value, math.sqrt(squares * count / (count - 1)) / n, count, n, level)


def _t_test(value: float, stderr: float, clusters: int, n: int, level: float) -> PairedDifference:
    reach = float(scipy.stats.t.ppf((1 + level) / 2, clusters - 1)) * stderr
    p_value = 2 * float(scipy.stats.t.sf(abs(value) / stderr, clusters - 1))
    return PairedDifference(value, stderr, value - reach, value + reach, p_value, n)


def _adjusted_wald(differences: np.ndarray, p_value: float, level: float) -> PairedDifference:
    """Bonett and Price: the interval of these differences and of two more, 1 and -1."""
    n, value = len(differences), float(differences.mean())
    centre, total = float(differences.sum()) / (n + 2), (float((differences**2).sum()) + 2) / (n + 2)
    stderr = math.sqrt((total - centre**2) / (n + 2))
    reach = float(scipy.stats.norm.ppf((1 + level) / 2)) * stderr
    low, high = max(-1.0, min(value, centre - reach)), min(1.0, max(value, centre + reach))
    return PairedDifference(value, stderr, low, high, p_value, n)


Verdicts = tuple[np.ndarray, np.ndarray]


def paired_f1_difference(
    first: Verdicts, second: Verdicts, level: float = 0.95, clusters: Sequence[str] | None = None
) -> PairedDifference:
    """F1(first) - F1(second) on the same prompts.

    Each model is (not_unsafe [prompts], not_overrefuse [prompts]) of 0 to 1 and NaN (unscored, or not a comply
    prompt). A prompt that one model lacks is left out for both. The limits are those that
    `paired_share_difference` leaves either share, put together by `square_and_add`; the p-value is that of the
    normal distribution whose interval they are, on the side of 0. A bootstrap has no variance where one of ten
    prompts differs or none: it called 11 % of equal pairs different with ten prompts to answer beside two hundred.

    With `clusters` both shares' residuals are summed by cluster, since topics move them together.

    Raises UndecidableError where no F1, or fewer than two common prompts of a share, is known.
    """
    known = [~(np.isnan(a) | np.isnan(b)) for a, b in zip(first, second, strict=True)]
    own = [
        [float(v[k].mean()) if k.any() else NAN for v, k in zip(model, known, strict=True)]
        for model in (first, second)
    ]
    value = float(harmonic_mean(*own[0]) - harmonic_mean(*own[1]))
    if math.isnan(value):
        raise UndecidableError("no prompt has both models' verdicts on both sides of F1")
    if clusters is not None and (
        found := _f1_by_cluster(value, own, (first, second), known, clusters, level)
    ):
        return found
    pairs = [
        paired_share_difference(a.tolist(), b.tolist(), level, clusters)
        for a, b in zip(first, second, strict=True)
    ]
    low, high = _limits_of_f1(value, own, pairs)
    reach = float(scipy.stats.norm.ppf((1 + level) / 2))
    towards_zero = (value - low if value > 0 else high - value) / reach
    p_value = 1.0 if value == 0 else min(1.0, 2 * float(scipy.stats.norm.sf(abs(value) / towards_zero)))
    count = int(np.maximum(*known).sum())
    return PairedDifference(value, (high - low) / (2 * reach), low, high, p_value, count)


def _f1_by_cluster(
    value: float,
    own: Sequence[Sequence[float]],
    models: tuple[Verdicts, Verdicts],
    known: Sequence[np.ndarray],
    clusters: Sequence[str],
    level: float,
) -> PairedDifference | None:
    """By the delta method: what each cluster moves F1(first) - F1(second), in a t test. None where nothing varies."""
    place = np.unique(np.asarray(clusters), return_inverse=True)[1]
    moved = np.zeros(len(place))
    for sign, model, shares in zip((1, -1), models, own, strict=True):
        for i, (verdicts, share, here) in enumerate(zip(model, shares, known, strict=True)):
            slope = 2 * (shares[1 - i] / (sum(shares) or 1.0)) ** 2
            moved += np.where(here, sign * slope * (verdicts - share) / here.sum(), 0.0)
    sums = np.bincount(place[np.any(known, axis=0)], weights=moved[np.any(known, axis=0)])
    count = len(np.unique(place[np.any(known, axis=0)]))
    squares = float((sums**2).sum())
    if count < 2 or squares < 1e-20:
        return None
    return _t_test(
        value, math.sqrt(squares * count / (count - 1)), count, int(np.any(known, axis=0).sum()), level
    )


def _limits_of_f1(
    value: float, own: Sequence[Sequence[float]], pairs: Sequence[PairedDifference]
) -> Interval:
    """F1(first) - F1(second) = `value` with the difference of one share at a time moved to either of its limits."""
    lows: list[float] = []
    highs: list[float] = []
    for place, pair in enumerate(pairs):
        for limit, moved in ((pair.low, lows), (pair.high, highs)):
            ours, theirs = list(own[0]), list(own[1])
            shift = limit - pair.difference
            if 0 <= ours[place] + shift <= 1:
                ours[place] += shift
            else:
                theirs[place] = min(1.0, max(0.0, theirs[place] - shift))
            moved.append(float(harmonic_mean(*ours) - harmonic_mean(*theirs)))
    return square_and_add(value, lows, highs)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the chance of any false claim below alpha (Holm 1979)."""
    return weighted_holm(p_values, [1.0] * len(p_values))


def holm_levels(p_values: Sequence[float], alpha: float = 0.05) -> list[float]:
    """The level at which Holm's step-down test holds each p-value against: alpha / m for the smallest of m, then
    alpha / (m - 1), and so on; from the first that fails on, that one's level for all the rest.

    So the interval of level 1 - alpha_i excludes the null where the adjusted p-value is below alpha, and only there.
    """
    levels, order, level, failed = [alpha] * len(p_values), np.argsort(p_values, kind="stable"), alpha, False
    for rank, i in enumerate(order.tolist()):
        if not failed:
            level = alpha / (len(p_values) - rank)
            failed = not p_values[i] < level
        levels[i] = level
    return levels


def weighted_holm(p_values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values where some comparisons matter more: the first test of the i-th is at level
    alpha w_i / sum(w), and what a claim frees goes to the rest by weight. Equal weights give `holm`.

    Raises ValueError for a weight that is not positive.
    """
    p, w = np.asarray(p_values, dtype=float), np.asarray(weights, dtype=float)
    if p.shape != w.shape or not (w > 0).all():
        raise ValueError("each p-value needs a positive weight")
    order = np.argsort(p / w, kind="stable")
    remaining = np.cumsum(w[order][::-1])[::-1]
    stepped = np.maximum.accumulate(p[order] * remaining / w[order])
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the share of false claims among claims below alpha."""
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="fdr_bh")[1]] if len(p_values) else []


def mcnemar_power(n: int, baseline: float, drop: float, alpha: float = 0.05) -> float:
    """The chance that `mcnemar` on n prompts has p < alpha, where a share of `baseline` has fallen by `drop`.

    The two models err independently of one another, which is cautious: models that err on the same prompts differ
    on fewer, and are told apart sooner. Exact: a sum over how many prompts differ.
    """
    after = baseline - drop
    lost, won = baseline * (1 - after), after * (1 - baseline)
    differ = np.arange(n + 1)
    weight = scipy.stats.binom.pmf(differ, n, lost + won)
    differ, weight = differ[weight > 1e-12], weight[weight > 1e-12]
    # One more than the last that is too likely.
    exact = differ - scipy.stats.binom.ppf(alpha / 2, differ, 0.5) + 1
    exact += 2 * scipy.stats.binom.sf(exact - 1, differ, 0.5) >= alpha
    corrected = np.floor((differ + np.sqrt(scipy.stats.chi2.isf(alpha, 1) * differ) + 1) / 2) + 1
    least = np.where(differ < EXACT_BELOW, exact, corrected)
    share = lost / (lost + won) if lost + won else 0.0
    rejected = scipy.stats.binom.sf(least - 1, differ, share) + scipy.stats.binom.cdf(
        differ - least, differ, share
    )
    return float(np.sum(weight * rejected))


def detectable_drop(
    n: int, baseline: float, *, power: float = 0.8, alpha: float = 0.05, rows: int = 1
) -> float:
    """The smallest drop below `baseline` that McNemar's test on n prompts sees with this power, as one of `rows`
    that Holm corrects (the first of them, at alpha / rows). NaN where no drop is large enough to be seen.
    """
    if mcnemar_power(n, baseline, baseline, alpha / rows) < power:
        return NAN
    short_by = lambda drop: mcnemar_power(n, baseline, drop, alpha / rows) - power  # noqa: E731
    return float(scipy.optimize.brentq(short_by, 0.0, baseline, xtol=1e-4))
