"""The policy that a reward asks for, estimated from samples of the reference: pi* ~ pi_ref exp(r / beta). Pure.

It maximises E[r] - beta KL(pi || pi_ref) (Korbak et al., arXiv 2205.11275; Rafailov et al., arXiv 2305.18290, eq. 4).
With n responses a prompt drawn from pi_ref each weighs exp(r / beta), normalised by the sum over its prompt:
self-normalised importance sampling, whose bias falls as 1 / n and is taken out to that order by the jackknife
(Owen, Monte Carlo theory, 2013, chapter 9). Every array of samples is [prompts, samples]; NaN is a sample that is not
there or was not scored, and has no weight.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import comb, logsumexp

from evals.statistics.intervals import NAN

LARGEST = 1e300  # nats


def tilted_logits(rewards: np.ndarray, beta: float, log_ratio: np.ndarray | None = None) -> np.ndarray:
    """r / beta, and `log_ratio` (log pi_ref - log proposal) of samples that another policy drew; -inf for NaN."""
    with np.errstate(over="ignore"):
        logits = np.clip(rewards / beta, -LARGEST, LARGEST)  # an overflow would be taken for NaN
    logits = logits if log_ratio is None else logits + log_ratio
    return np.where(np.isfinite(logits), logits, -np.inf)


def tilted_weights(logits: np.ndarray) -> np.ndarray:
    """Weights [prompts, samples] that sum to 1 over a prompt's samples; NaN for a prompt that has none."""
    top = logits.max(axis=1, keepdims=True, initial=-np.inf)
    raw = np.exp(logits - np.where(np.isfinite(top), top, 0.0))
    total = raw.sum(axis=1, keepdims=True)
    return np.divide(raw, total, out=np.full(raw.shape, np.nan), where=total > 0)


def effective_size(weights: np.ndarray) -> np.ndarray:
    """1 / sum w^2 [prompts]: as many samples of pi* itself would tell as much (Kish)."""
    return 1.0 / (weights**2).sum(axis=1)


def tilted_means(logits: np.ndarray, values: np.ndarray) -> np.ndarray:
    """E*[value] of each prompt [prompts], the bias of order 1 / n taken out; it may leave the values' range.

    A sample whose value is NaN is left out. NaN for a prompt with fewer than two samples.
    """
    known = np.isfinite(logits) & np.isfinite(values)
    rows, held = np.where(known, logits, -np.inf), np.where(known, values, 0.0)
    weights = tilted_weights(rows)
    raw, first, others = _scaled(rows)
    whole = (weights * held).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = ((raw * held).sum(axis=1)[:, None] - raw * held) / (raw.sum(axis=1)[:, None] - raw)
    left[np.arange(len(left)), first] = (tilted_weights(others) * held).sum(axis=1)
    return _jackknife(whole, left, known)


def _scaled(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """exp(row - its largest), where the largest stands, and the rows without it.

    Without any sample but the largest a sum keeps the largest's 1, and a difference its digits; without the largest,
    the others' weights may be lost to rounding, and are worked out apart.
    """
    first = rows.argmax(axis=1)
    top = rows[np.arange(len(rows)), first]
    raw = np.exp(rows - np.where(np.isfinite(top), top, 0.0)[:, None])
    others = rows.copy()
    others[np.arange(len(rows)), first] = -np.inf
    return raw, first, others


def plain_means(logits: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The same without the correction: what the weights say as they are."""
    known = np.isfinite(logits) & np.isfinite(values)
    weights = tilted_weights(np.where(known, logits, -np.inf))
    return (weights * np.where(known, values, 0.0)).sum(axis=1)


def log_partitions(rewards: np.ndarray, beta: float, log_ratio: np.ndarray | None = None) -> np.ndarray:
    """log E_ref[exp(r / beta)] of each prompt [prompts], in nats, its bias of order 1 / n taken out.

    Times beta it is the most that E[r] - beta KL can be.
    """
    logits = tilted_logits(rewards, beta, log_ratio)
    base = tilted_logits(np.where(np.isfinite(rewards), 0.0, np.nan), 1.0, log_ratio)
    known = np.isfinite(logits)
    with np.errstate(invalid="ignore"):  # of a prompt without samples, or one whose only one is left out
        whole = _log_sum(logits) - _log_sum(base)
        left = _log_sums_without(logits) - _log_sums_without(base)
    return _jackknife(whole, left, known)


def _log_sums_without(rows: np.ndarray) -> np.ndarray:
    """log of the sum of exp(row) without each sample [prompts, samples]."""
    raw, first, others = _scaled(rows)
    top = rows[np.arange(len(rows)), first]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log(raw.sum(axis=1)[:, None] - raw) + top[:, None]
    found[np.arange(len(rows)), first] = _log_sum(others)
    return found


def _log_sum(logits: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return logsumexp(logits, axis=1)


def _jackknife(whole: np.ndarray, left: np.ndarray, known: np.ndarray) -> np.ndarray:
    """n whole - (n - 1) mean of `left` [prompts, samples], the estimates without one sample (Quenouille)."""
    n = known.sum(axis=1)
    with np.errstate(invalid="ignore"):
        mean = np.where(known & (n >= 2)[:, None], left, 0.0).sum(axis=1) / np.maximum(n, 1)
        return np.where(n >= 2, n * whole - (n - 1) * mean, np.nan)


def best_of(rewards: np.ndarray, values: np.ndarray, k: int) -> np.ndarray:
    """E[value of the best of k responses by reward] of each prompt [prompts], over all choices of k of its samples.

    Ties share. A sample without reward or value is left out. NaN for a prompt with fewer than k samples.
    """
    known = np.isfinite(rewards) & np.isfinite(values)
    found = np.full(len(rewards), np.nan)
    for prompt, row in enumerate(known):
        n = int(row.sum())
        if n < k:
            continue
        ranks, place = np.unique(rewards[prompt, row], return_inverse=True)
        count = np.bincount(place, minlength=len(ranks))
        below = np.cumsum(count)
        chance = comb(below, k) / comb(n, k)  # that the best is no higher than this
        of_rank = np.diff(chance, prepend=0.0) / count
        found[prompt] = float(of_rank[place] @ values[prompt, row])
    return found


def best_of_kl(k: int) -> float:
    """The most that best-of-k's KL from the reference can be: log k - (k - 1) / k nats (Beirami et al., 2401.01879)."""
    return math.log(k) - (k - 1) / k if k >= 1 else NAN
