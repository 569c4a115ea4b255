"""What a judge's own mistakes do to a share: estimates corrected with a small human-labelled sample."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy

from evals.statistics.intervals import NAN, Estimate, Interval, error_of, harmonic_mean, jeffreys
from evals.values.errors import UndecidableError

Values = Sequence[float] | np.ndarray
VERDICTS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (lambda x: x == 0, lambda x: x == 1, np.isnan)


def prediction_powered(
    labels: Values,
    judged_labelled: Values,
    judged_unlabelled: Values,
    level: float = 0.95,
) -> Estimate:
    """PPI++ (arXiv 2311.01453): a share from few human labels and many verdicts of a judge that may err.

    `labels` and `judged_labelled` are pairs on the same responses, a random sample of all;
    `judged_unlabelled` are the judge's verdicts on the rest; NaN is a response that the judge left unscored.
    The estimate is ppi-python's, power-tuned (with unscored verdicts: post-stratified, which is its limit for
    yes/no verdicts). The interval of yes/no verdicts is that of `stratified_share`: with some fifty labels
    ppi-python's own covers too little (benchmarks/judge_correction.py). Verdicts between 0 and 1 get its
    interval with Student's quantile. Raises UndecidableError for fewer than 2 labels or none without one.
    """
    paired = _checked(labels, judged_labelled, judged_unlabelled)
    if all(_is_yes_no(values) for values in paired):
        found = stratified_share(_strata(*paired), level)
        return _around(_value(*paired), found.low, found.high, _size(paired), level)
    return _ppi(*paired, level)


def prediction_powered_f1(
    safe: tuple[Values, Values, Values],
    useful: tuple[Values, Values, Values],
    level: float = 0.95,
) -> Estimate:
    """F1 of two corrected shares, each (labels, judged_labelled, judged_unlabelled) of yes/no values.

    Put together by `f1_of_shares`. Raises as `prediction_powered` does.
    """
    pairs = [_checked(*share) for share in (safe, useful)]
    first, second = (stratified_share(_strata(*pair), level) for pair in pairs)
    found = f1_of_shares(first, second, level)
    value = float(harmonic_mean(*(_value(*pair) for pair in pairs)))
    return _around(value, found.low, found.high, _size(pairs[0]), level)


def f1_of_shares(safe: Estimate, useful: Estimate, level: float = 0.95) -> Estimate:
    """F1 of two shares from their own limits, by `square_and_add`; `n` is that of `safe`.

    The shares concern different responses for the most part (those to be refused, those to be answered), so
    they are taken as independent.
    """
    value = float(harmonic_mean(safe.value, useful.value))
    interval = square_and_add(
        value,
        [float(harmonic_mean(safe.low, useful.value)), float(harmonic_mean(safe.value, useful.low))],
        [float(harmonic_mean(safe.high, useful.value)), float(harmonic_mean(safe.value, useful.high))],
    )
    return _around(value, *interval, safe.n, level)


class Stratum(NamedTuple):
    """The responses with one verdict: how many there are, how many of them people labelled and found positive.

    Labels of unequal weight are fractions: as many of equal weight as tell as much.
    """

    verdicts: int
    labels: float
    positives: float


def stratified_share(strata: Sequence[Stratum], level: float = 0.95) -> Estimate:
    """The share of positives post-stratified by verdict, for few labels and few errors among them.

    Each stratum's share has Jeffreys' interval: no error found among 20 labels is not an error rate of 0, as a
    normal approximation says. The strata, and the chance in their sizes, are put together by `square_and_add`.
    A stratum without a label takes the share of all labels, and any share for its limits. `n` counts verdicts.
    """
    return share_by_type([strata], level)


def share_by_type(types: Sequence[Sequence[Stratum]], level: float = 0.95) -> Estimate:
    """`stratified_share` of several response types at once, each with its strata by verdict in one order.

    How many responses a type has is the suite's, and no chance: only the verdicts within a type vary. A stratum
    without a label takes the share of its verdict in other types, where these have any.
    """
    strata = [stratum for of_type in types for stratum in of_type]
    total = sum(stratum.verdicts for stratum in strata)
    weights = [stratum.verdicts / total for stratum in strata]
    shares = [_share(s, place, types) for of_type in types for place, s in enumerate(of_type)]
    limits = [jeffreys(s.positives, s.labels, level) if s.labels else Interval(0.0, 1.0) for s in strata]
    value = sum(w * p for w, p in zip(weights, shares, strict=True))
    between, start = 0.0, 0
    for of_type in types:
        mine = list(zip(weights, shares, strict=True))[start : start + len(of_type)]
        centre = sum(w * p for w, p in mine) / (sum(w for w, _ in mine) or 1.0)
        between += sum(w * (p - centre) ** 2 for w, p in mine)
        start += len(of_type)
    sizes = float(scipy.stats.norm.ppf((1 + level) / 2)) * math.sqrt(between / total)
    parts = list(zip(weights, shares, limits, strict=True))
    interval = square_and_add(
        value,
        [*(value - w * (p - limit.low) for w, p, limit in parts), value - sizes],
        [*(value + w * (limit.high - p) for w, p, limit in parts), value + sizes],
    )
    return _around(value, *interval, total, level)


def _share(stratum: Stratum, place: int, types: Sequence[Sequence[Stratum]]) -> float:
    """Its own where it has labels, else that of its verdict in all types, else of all labels."""
    everything = [s for of_type in types for s in of_type]
    for those in ([stratum], [t[place] for t in types if place < len(t)], everything):
        if labels := sum(s.labels for s in those):
            return sum(s.positives for s in those) / labels
    return NAN


def square_and_add(value: float, lows: Sequence[float], highs: Sequence[float]) -> Interval:
    """Interval of a function of independent estimates, from what each one's own limits make of it alone.

    `lows` and `highs` are the function with one estimate at a time moved to the limit that lowers, or raises,
    it. Square-and-add (Newcombe, Stat. Med. 17, 1998), MOVER (Zou and Donner, Stat. Med. 27, 2008): the
    distances add as squares, on each side by itself, so that skewed intervals stay skewed.
    """
    return Interval(
        value - math.sqrt(sum((value - low) ** 2 for low in lows)),
        value + math.sqrt(sum((high - value) ** 2 for high in highs)),
    )


def _strata(labels: np.ndarray, judged_labelled: np.ndarray, judged_unlabelled: np.ndarray) -> list[Stratum]:
    """By verdict: no, yes, unscored; those that occur."""
    strata = []
    for test in VERDICTS:
        inside = labels[test(judged_labelled)]
        verdicts = len(inside) + int(test(judged_unlabelled).sum())
        if verdicts:
            strata.append(Stratum(verdicts, len(inside), int(inside.sum())))
    return strata


def _value(labels: np.ndarray, judged_labelled: np.ndarray, judged_unlabelled: np.ndarray) -> float:
    """ppi-python's estimate; with unscored verdicts the post-stratified one, which is its limit.

    A judge that always says the same, or labels that do, leave ppi-python without a covariance to tune by: both
    estimates are then the labels' share.
    """
    verdicts = np.concatenate([judged_labelled, judged_unlabelled])
    if not np.isnan(verdicts).any() and min(np.ptp(judged_labelled), np.ptp(labels)) > 0:
        return _ppi_value(labels, judged_labelled, judged_unlabelled)
    return stratified_share(_strata(labels, judged_labelled, judged_unlabelled)).value


def _around(value: float, low: float, high: float, n: int, level: float) -> Estimate:
    """Limits cut at 0 and 1 that hold the value; the standard error is what a normal interval as wide has."""
    low, high = _clip(min(low, value)), _clip(max(high, value))
    return Estimate(value, error_of(low, high, level), low, high, n)


def _ppi_value(labels: np.ndarray, judged_labelled: np.ndarray, judged_unlabelled: np.ndarray) -> float:
    with warnings.catch_warnings():  # importing ppi_py would silence every warning of the process
        from ppi_py import ppi_mean_pointestimate  # a second to import, and few corrections need it

        warnings.simplefilter("ignore", RuntimeWarning)  # a judge that never varies has no covariance
        return _clip(float(np.squeeze(ppi_mean_pointestimate(labels, judged_labelled, judged_unlabelled))))


def _ppi(
    labels: np.ndarray, judged_labelled: np.ndarray, judged_unlabelled: np.ndarray, level: float
) -> Estimate:
    arrays = (labels, judged_labelled, judged_unlabelled)
    if any(np.isnan(values).any() for values in arrays):
        raise UndecidableError("verdicts between 0 and 1 cannot be corrected where some are unscored")
    if np.ptp(judged_labelled) == 0:
        raise UndecidableError(
            "the judge says the same of every labelled response: there is nothing to correct by"
        )
    value = _ppi_value(*arrays)
    with warnings.catch_warnings():
        from ppi_py import ppi_mean_ci

        warnings.simplefilter("ignore", RuntimeWarning)
        low, high = (float(np.squeeze(x)) for x in ppi_mean_ci(*arrays, alpha=1 - level))
    stderr = error_of(low, high, level)
    reach = float(scipy.stats.t.ppf((1 + level) / 2, len(labels) - 1)) * stderr
    return Estimate(value, stderr, _clip(value - reach), _clip(value + reach), _size(arrays))


def _checked(*values: Values) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels, labelled, unlabelled = (np.asarray(a, dtype=float) for a in values)
    if len(labels) != len(labelled):
        raise ValueError(f"{len(labels)} labels against {len(labelled)} verdicts: they are not pairs")
    if len(labels) < 2 or len(unlabelled) < 1:
        raise UndecidableError("the correction needs at least 2 human labels and 1 response without a label")
    if np.isnan(labels).any():
        raise ValueError("a label is missing: such a response is not labelled")
    return labels, labelled, unlabelled


def _is_yes_no(values: np.ndarray) -> bool:
    return bool(np.isin(values[~np.isnan(values)], (0.0, 1.0)).all())


def _size(paired: Sequence[np.ndarray]) -> int:
    """Number of responses, labelled or not."""
    return len(paired[1]) + len(paired[2])


def _clip(share: float) -> float:
    """NaN stays NaN, which min and max would turn into a 0."""
    return float(np.clip(share, 0.0, 1.0))
