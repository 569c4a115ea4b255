"""Shift and scale of the reward: what a trainer's KL penalty and clipping would feel. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evals.statistics import resample_counts
from evals.values.clusters import PROMPT
from harness.subjects.completions import CompletionSet


@dataclass(frozen=True)
class Shift:
    """Rewards of one group of completions, in the reward's units, scored by both sides.

    `shift` is the mean of candidate less baseline with its interval; `scale` the ratio of the standard
    deviations among completions of one prompt, NaN where the baseline's is 0; `correlation` is Pearson's
    over the same centred rewards.
    """

    label: str
    n: int
    baseline: float
    candidate: float
    shift: float
    shift_low: float
    shift_high: float
    scale: float
    scale_low: float
    scale_high: float
    correlation: float


def shifts(
    completions: CompletionSet,
    baseline: np.ndarray,
    candidate: np.ndarray,
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    cluster: str = PROMPT,
) -> list[Shift]:
    """Each response type (`hard_refuse`), then its classes (`hard_refuse/ideal`). Intervals: bootstrap over prompts, or
    what `cluster` names.
    """
    found = []
    types, classes = np.asarray([t.value for t in completions.types]), np.asarray(completions.classes)
    prompts = np.asarray(completions.prompts, dtype=object)
    units = np.asarray(completions.counted(cluster).ids, dtype=object)
    scored = np.isfinite(baseline) & np.isfinite(candidate)
    for response_type in completions.response_types:
        of_type = scored & (types == response_type.value)
        named = {response_type.value: of_type}
        for name in completions.class_order:
            named[f"{response_type.value}/{name}"] = of_type & (classes == name)
        for label, member in named.items():
            if member.any():
                rng = np.random.default_rng([seed, 3])
                sides = baseline[member], candidate[member]
                named_by = prompts[member], units[member]
                found.append(_shift(label, *named_by, *sides, draws=draws, level=level, rng=rng))
    return found


def _shift(
    label: str,
    prompts: np.ndarray,
    units: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    *,
    draws: int,
    level: float,
    rng: np.random.Generator,
) -> Shift:
    """Sums by unit, so that a draw of units is a matrix product; rewards are centred by prompt."""
    _, prompt = np.unique(prompts, return_inverse=True)
    of_prompt = np.bincount(prompt).astype(np.float64)
    a_centred, b_centred = (
        values - (np.bincount(prompt, weights=values) / of_prompt)[prompt] for values in (a, b)
    )
    _, unit = np.unique(units, return_inverse=True)
    n = np.bincount(unit).astype(np.float64)
    columns = [
        np.bincount(unit, weights=v) for v in (b - a, a_centred**2, b_centred**2, a_centred * b_centred)
    ]
    sums = np.stack([n, *columns], axis=1)
    counts = resample_counts([""] * len(n), draws, rng)
    shift, scale, correlation = _figures(sums.sum(axis=0, keepdims=True))
    drawn_shift, drawn_scale, _ = _figures(counts @ sums)
    low, high = _limits(drawn_shift, level)
    scale_low, scale_high = _limits(drawn_scale, level)
    return Shift(
        label=label,
        n=len(a),
        baseline=float(a.mean()),
        candidate=float(b.mean()),
        shift=float(shift[0]),
        shift_low=low,
        shift_high=high,
        scale=float(scale[0]),
        scale_low=scale_low,
        scale_high=scale_high,
        correlation=float(correlation[0]),
    )


def _figures(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shift, scale and correlation [draws] from sums [draws, 5]."""
    n, shift, a, b, ab = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        small = 1e-12 * np.maximum(a, b)
        scale = np.where(a > small, np.sqrt(b / a), np.nan)
        correlation = np.where((a > small) & (b > small), ab / np.sqrt(a * b), np.nan)
        return shift / n, scale, correlation


def _limits(values: np.ndarray, level: float) -> tuple[float, float]:
    kept = values[np.isfinite(values)]
    if not len(kept):
        return float("nan"), float("nan")
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return low, high
