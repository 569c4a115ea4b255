"""Ordered pairs of responses to the same prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def ordered_pairs(prompts: Sequence[str], rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices (better, worse), each [pairs], of all pairs of one prompt whose ranks differ.

    `rank` [responses], 0 is best. Prompts of equal size are handled together, so that time and
    memory grow with the number of prompts, not with its square. Order: by prompt's first
    appearance within its size, then by position.
    """
    _, first, inverse = np.unique(np.asarray(prompts, dtype=object), return_index=True, return_inverse=True)
    group = np.argsort(np.argsort(first))[inverse.reshape(-1)]  # prompts numbered by first appearance
    by_prompt = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    starts = np.cumsum(sizes) - sizes
    better, worse = [np.empty(0, dtype=np.intp)], [np.empty(0, dtype=np.intp)]
    for size in np.unique(sizes[sizes > 1]):
        members = by_prompt[starts[sizes == size][:, None] + np.arange(size)]  # [prompts, size]
        left, right = np.triu_indices(int(size), 1)
        a, b = members[:, left].reshape(-1), members[:, right].reshape(-1)
        differs = rank[a] != rank[b]
        a, b = a[differs], b[differs]
        swap = rank[a] > rank[b]
        better.append(np.where(swap, b, a))
        worse.append(np.where(swap, a, b))
    return np.concatenate(better), np.concatenate(worse)


def margins_of(
    classes: Sequence[str],
    better: np.ndarray,
    worse: np.ndarray,
    default: float,
    special: Mapping[str, float],
) -> np.ndarray:
    """Margins [pairs]: `special["better>worse"]` where it is given, else `default`."""
    margins = np.full(len(better), default, dtype=np.float64)
    names = np.asarray(classes, dtype=object)
    for pair, margin in special.items():
        first, _, second = pair.partition(">")
        margins[(names[better] == first) & (names[worse] == second)] = margin
    return margins
