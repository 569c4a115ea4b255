"""How well a reward ranks responses: the paper's look at a reward before any reinforcement learning.

The ranking error is the share of pairs (ideal, non-ideal) of one prompt in which the non-ideal
response has the higher reward. A tie counts as half an error: a constant reward then scores 0.5, as
a coin would, and neither direction of rounding is rewarded. Unscored pairs are left out and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evals.statistics.intervals import Interval, wilson
from evals.statistics.resampling import cluster_shares, percentiles, resample_counts
from trainers.reward.examples import FitExamples, ordered_pairs
from trainers.reward.reward_weights import RewardWeights

METHODS = ("rm", "rm+rbr", "rbr")


@dataclass(frozen=True)
class RankingError:
    """A share of pairs, its standard error and 95 % interval by bootstrap over prompts.

    NaN where no pair is scored.
    """

    value: float
    stderr: float
    low: float
    high: float
    prompts: int
    pairs: int
    unscored: int  # pairs with an unscored response


@dataclass(frozen=True)
class ErrorChange:
    """Ranking error of one reward less that of another, on the pairs that both score.

    95 % interval by bootstrap over prompts (percentiles); NaN where there is no such pair.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class WorstPair:
    """A pair that the reward ranks wrong, by `gap` = R(ideal) - R(other), and what decides it.

    `ideal` and `other` are rows of the examples. `deciding` has (what, its part of the gap), the
    most harmful first: features of the rule-based term, and "reward_model".
    """

    prompt: str
    ideal: int
    other: int
    gap: float
    deciding: tuple[tuple[str, float], ...]


def rewards(examples: FitExamples, weights: RewardWeights) -> dict[str, np.ndarray]:
    """Rewards [responses] of the reward model, of both terms together, and of the rules alone."""
    rules = contributions(examples, weights).sum(axis=1)
    return {"rm": examples.reward_model, "rm+rbr": examples.reward_model + rules, "rbr": rules}


def contributions(examples: FitExamples, weights: RewardWeights) -> np.ndarray:
    """Each feature's part of the rule-based reward, [responses, features]."""
    return weights.contributions(examples.response_type, examples.features)


def ideal_pairs(prompts: Sequence[str], rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices (ideal, other), each [pairs], of pairs of one prompt of which only one is ideal."""
    better, worse = ordered_pairs(prompts, rank)
    ideal = rank[better] == 0
    return better[ideal], worse[ideal]


def ranking_error(
    prompts: Sequence[str],
    rank: np.ndarray,
    total: np.ndarray,
    *,
    draws: int = 2000,
    seed: int = 0,
    clusters: Mapping[str, str] | None = None,
) -> RankingError:
    """Ranking error of the rewards `total` [responses]; `rank` [responses] is 0 for ideal responses.

    `clusters`: each prompt's topic, say; the interval then counts the sampling of these.
    """
    ideal, other = ideal_pairs(prompts, rank)
    known = np.isfinite(total[ideal]) & np.isfinite(total[other])
    wrong = _wrong(total[ideal[known]] - total[other[known]])
    asked = np.asarray(prompts, dtype=object)[ideal[known]]
    units = asked if clusters is None else np.array([clusters[id] for id in asked], dtype=object)
    names, cluster = np.unique(units, return_inverse=True)
    if not len(names):
        nan = float("nan")
        return RankingError(nan, nan, nan, nan, 0, 0, int((~known).sum()))
    errors = np.bincount(cluster, weights=wrong)[:, None]
    pairs = np.bincount(cluster).astype(np.float64)[:, None]
    counts = resample_counts([""] * len(names), draws, np.random.default_rng(seed))
    values = cluster_shares(counts, errors, pairs)[:, 0]
    value = float(wrong.mean())
    interval = _interval(value, float(values.var()), len(names), len(wrong))
    return RankingError(
        value,
        float(values.std(ddof=1)),
        interval.low,
        interval.high,
        len(set(asked.tolist())),
        len(wrong),
        int((~known).sum()),
    )


def ranking_errors(
    examples: FitExamples,
    weights: RewardWeights,
    *,
    draws: int = 2000,
    seed: int = 0,
    clusters: Mapping[str, str] | None = None,
) -> dict[str, RankingError]:
    """Errors by METHODS, over the same draws of prompts where the same pairs are scored."""
    return {
        method: ranking_error(
            examples.prompts, examples.rank, total, draws=draws, seed=seed, clusters=clusters
        )
        for method, total in rewards(examples, weights).items()
    }


def error_change(
    prompts: Sequence[str],
    rank: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    draws: int = 2000,
    seed: int = 0,
) -> ErrorChange:
    """Error of rewards `first` less that of `second`, both [responses], paired by prompt."""
    ideal, other = ideal_pairs(prompts, rank)
    gaps = [total[ideal] - total[other] for total in (first, second)]
    known = np.isfinite(gaps[0]) & np.isfinite(gaps[1])
    if not known.any():
        return ErrorChange(float("nan"), float("nan"), float("nan"))
    change = _wrong(gaps[0][known]) - _wrong(gaps[1][known])
    names, cluster = np.unique(np.asarray(prompts, dtype=object)[ideal[known]], return_inverse=True)
    counts = resample_counts([""] * len(names), draws, np.random.default_rng(seed))
    changes = np.bincount(cluster, weights=change)[:, None]
    values = cluster_shares(counts, changes, np.bincount(cluster).astype(np.float64)[:, None])
    return ErrorChange(float(change.mean()), *percentiles(values))


def variance_shares(prompts: Sequence[str], terms: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Each term's share of the variance of their sum among responses to the same prompt.

    cov(term, sum) / var(sum), each term centred by prompt: only what differs between responses to one
    prompt can teach a policy. The shares add to 1; one is negative where a term works against the sum.
    Responses with an unscored term are left out; without variance every share is NaN.
    """
    values = np.stack(list(terms.values()))
    known = np.isfinite(values).all(axis=0)
    values = values[:, known]
    _, prompt = np.unique(np.asarray(prompts, dtype=object)[known], return_inverse=True)
    n = np.bincount(prompt)
    means = np.stack([np.bincount(prompt, weights=row, minlength=len(n)) / n for row in values])
    values = values - means[:, prompt]
    total = values.sum(axis=0)
    variance = float(total @ total)
    shares = values @ total / variance if variance > 0.0 else np.full(len(values), np.nan)
    return dict(zip(terms, shares.tolist(), strict=True))


def worst_pairs(
    examples: FitExamples, weights: RewardWeights, count: int = 10, deciding: int = 5
) -> list[WorstPair]:
    """The `count` scored (ideal, non-ideal) pairs with the lowest gap that is below 0, worst first."""
    total = rewards(examples, weights)["rm+rbr"]
    ideal, other = ideal_pairs(examples.prompts, examples.rank)
    gaps = total[ideal] - total[other]
    order = [i for i in np.argsort(gaps, kind="stable")[:count] if gaps[i] < 0.0]
    parts = np.column_stack([contributions(examples, weights), examples.reward_model])
    names = (*examples.features.names, "reward_model")
    found = []
    for i in order:
        change = parts[ideal[i]] - parts[other[i]]
        harmful = [j for j in np.argsort(change, kind="stable")[:deciding] if change[j] < 0.0]
        found.append(
            WorstPair(
                examples.prompts[ideal[i]],
                int(ideal[i]),
                int(other[i]),
                float(gaps[i]),
                tuple((names[j], float(change[j])) for j in harmful),
            )
        )
    return found


def _interval(value: float, variance: float, prompts: int, pairs: int) -> Interval:
    """Wilson's interval at the effective sample size value (1 - value) / variance.

    Errors lie near 0, where percentile limits of a bootstrap cover too little (Korn and Graubard, Survey
    Methodology 24, 1998). At 0 or 1 the draws do not vary: there each prompt counts once.
    """
    varies = variance > 0.0 and 0.0 < value < 1.0
    effective = min(pairs, max(1.0, value * (1.0 - value) / variance)) if varies else prompts
    return wilson(value * effective, effective)


def _wrong(gaps: np.ndarray) -> np.ndarray:
    """1 where the ideal response has less reward, one half where both have the same."""
    return np.where(gaps < 0.0, 1.0, np.where(gaps == 0.0, 0.5, 0.0))
