"""What a judge's own mistakes do to a share: estimates corrected with a small human-labelled sample."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from evals.errors import UndecidableError
from evals.statistics.intervals import Estimate, Interval, harmonic_mean

Values = Sequence[float] | np.ndarray


def rogan_gladen(
    flagged: int,
    n: int,
    *,
    true_positives: int,
    positives: int,
    true_negatives: int,
    negatives: int,
    level: float = 0.95,
) -> Estimate:
    """True share behind a judge's `flagged` of `n`, given the judge's record on human-labelled responses.

    Estimate of Rogan and Gladen (Am. J. Epidemiol. 107, 1978), interval of Lang and Reiczigel (Prev. Vet.
    Med. 113, 2014), which counts that sensitivity and specificity are themselves estimated. Clipped to
    [0, 1]. Raises UndecidableError when the judge is no better than chance.
    """
    if min(n, positives, negatives) == 0:
        raise UndecidableError("a judge's correction needs judged responses and human labels of both kinds")
    youden = true_positives / positives + true_negatives / negatives - 1
    if youden <= 0:
        raise UndecidableError("the judge is no better than chance on the human labels")
    value = (flagged / n + true_negatives / negatives - 1) / youden
    z = float(stats.norm.ppf((1 + level) / 2))
    apparent, size = (flagged + z**2 / 2) / (n + z**2), n + z**2
    sensitivity, specificity = (true_positives + 1) / (positives + 2), (true_negatives + 1) / (negatives + 2)
    youden = sensitivity + specificity - 1
    centre = (apparent + specificity - 1) / youden
    of_sensitivity = sensitivity * (1 - sensitivity) / (positives + 2)
    of_specificity = specificity * (1 - specificity) / (negatives + 2)
    variance = apparent * (1 - apparent) / size
    variance += centre**2 * of_sensitivity + (1 - centre) ** 2 * of_specificity
    stderr = math.sqrt(variance) / youden
    shift = 2 * z**2 * (centre * of_sensitivity - (1 - centre) * of_specificity)
    low, high = _clip(centre + shift - z * stderr), _clip(centre + shift + z * stderr)
    return Estimate(_clip(value), stderr, low, high, n)


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
    yes/no verdicts). The interval of yes/no verdicts is that of `verdict_posterior`: with some fifty labels
    ppi-python's own covers too little (benchmarks/judge_correction.py). Verdicts between 0 and 1 get its
    interval with Student's quantile. Raises UndecidableError for fewer than 2 labels or none without one.
    """
    paired = _checked(labels, judged_labelled, judged_unlabelled)
    if all(_is_yes_no(values) for values in paired):
        return _estimate(_value(*paired), verdict_posterior(*paired), paired[0], _size(paired), level)
    return _ppi(*paired, level)


def prediction_powered_f1(
    safe: tuple[Values, Values, Values],
    useful: tuple[Values, Values, Values],
    level: float = 0.95,
) -> Estimate:
    """F1 of two corrected shares, each (labels, judged_labelled, judged_unlabelled) of yes/no values.

    The shares concern different responses for the most part (those to be refused, those to be answered), so
    their posteriors are taken as independent. Raises as `prediction_powered` does.
    """
    pairs = [_checked(*share) for share in (safe, useful)]
    posteriors = [verdict_posterior(*pair, stream=stream) for stream, pair in enumerate(pairs)]
    value = float(harmonic_mean(*(_value(*pair) for pair in pairs)))
    labels = np.concatenate([pair[0] for pair in pairs])
    return _estimate(value, harmonic_mean(*posteriors), labels, _size(pairs[0]), level)


def verdict_posterior(
    labels: np.ndarray,
    judged_labelled: np.ndarray,
    judged_unlabelled: np.ndarray,
    *,
    draws: int = 10_000,
    stream: int = 0,
) -> np.ndarray:
    """Draws [draws] of the share of positives: post-stratified by verdict, with Jeffreys' prior in each.

    A verdict (yes, no, unscored) is a stratum. Its share of positives has a beta posterior from the labels in
    it, the strata's sizes a Dirichlet one from all verdicts. Small strata keep the width that a normal
    approximation loses: no error found among 20 labels is not an error rate of 0. Posterior of a stratified
    binomial sample: Gelman et al., Bayesian Data Analysis, 3rd ed., chapter 8.
    """
    rng = np.random.default_rng(stream)
    share, size = np.zeros(draws), []
    strata = [found for found in _strata(judged_labelled, judged_unlabelled) if found.all_verdicts]
    for found in strata:
        inside = labels[found.labelled]
        size.append((found.all_verdicts, rng.beta(inside.sum() + 0.5, (1 - inside).sum() + 0.5, draws)))
    weights = rng.dirichlet([count + 0.5 for count, _ in size], draws)
    for weight, (_, positives) in zip(weights.T, size, strict=True):
        share += weight * positives
    return share


class _Stratum(NamedTuple):
    labelled: np.ndarray  # [labels] of bool: those with this verdict
    all_verdicts: int


def _strata(judged_labelled: np.ndarray, judged_unlabelled: np.ndarray) -> list[_Stratum]:
    tests: list[Callable[[np.ndarray], np.ndarray]] = [lambda x: x == 0, lambda x: x == 1, np.isnan]
    return [
        _Stratum(test(judged_labelled), int(test(judged_labelled).sum() + test(judged_unlabelled).sum()))
        for test in tests
    ]


def _value(labels: np.ndarray, judged_labelled: np.ndarray, judged_unlabelled: np.ndarray) -> float:
    """ppi-python's estimate; with unscored verdicts the labels' share by verdict, weighted by their shares.

    A verdict that no label has takes the share of all labels. A judge that always says the same, or labels
    that do, leave ppi-python without a covariance to tune by: both estimates are then the labels' share.
    """
    verdicts = np.concatenate([judged_labelled, judged_unlabelled])
    if not np.isnan(verdicts).any() and min(np.ptp(judged_labelled), np.ptp(labels)) > 0:
        return _ppi(labels, judged_labelled, judged_unlabelled, 0.95).value
    total = len(judged_labelled) + len(judged_unlabelled)
    parts = [
        found.all_verdicts * float(labels[found.labelled].mean() if found.labelled.any() else labels.mean())
        for found in _strata(judged_labelled, judged_unlabelled)
    ]
    return sum(parts) / total


def _estimate(value: float, posterior: np.ndarray, labels: np.ndarray, n: int, level: float) -> Estimate:
    """The shortest interval of the posterior; up to the edge where every label says the same."""
    low, high = shortest_interval(posterior, level)
    low = 0.0 if labels.max() == 0 else min(low, value)
    high = 1.0 if labels.min() == 1 else max(high, value)
    return Estimate(value, float(posterior.std(ddof=1)), low, high, n)


def shortest_interval(draws: np.ndarray, level: float = 0.95) -> Interval:
    """The shortest interval that holds `level` of the draws."""
    ordered = np.sort(draws)
    kept = math.ceil(level * len(ordered))
    widths = ordered[kept - 1 :] - ordered[: len(ordered) - kept + 1]
    start = int(widths.argmin())
    return Interval(float(ordered[start]), float(ordered[start + kept - 1]))


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
    with warnings.catch_warnings():  # importing ppi_py would silence every warning of the process
        from ppi_py import ppi_mean_ci, ppi_mean_pointestimate  # a second to import; few corrections need it

        warnings.simplefilter("ignore", RuntimeWarning)  # a judge that never varies has no covariance
        value = float(np.squeeze(ppi_mean_pointestimate(*arrays)))
        low, high = (float(np.squeeze(x)) for x in ppi_mean_ci(*arrays, alpha=1 - level))
    stderr = (high - low) / (2 * float(stats.norm.ppf((1 + level) / 2)))
    reach = float(stats.t.ppf((1 + level) / 2, len(labels) - 1)) * stderr
    return Estimate(_clip(value), stderr, _clip(value - reach), _clip(value + reach), _size(arrays))


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
