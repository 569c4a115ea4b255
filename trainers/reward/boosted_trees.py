"""The non-linear alternative to weights: gradient-boosted trees on the pairwise hinge loss.

Each tree (scikit-learn's regression tree) follows the negative gradient of the summed loss with respect
to the responses' rewards; its values, times the rate, are added to the reward (Friedman 2001). A tree's
reward is shared out over features along the path from its root (Saabas), so that contributions add up to
the reward as they do for weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAF = -1


@dataclass(frozen=True)
class RegressionTree:
    """Arrays over nodes, the root first; `left` is -1 at a leaf, `value` the reward at each node."""

    feature: tuple[int, ...]
    threshold: tuple[float, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    value: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raises ValueError where the arrays are no tree; children come after their parent."""
        size = len(self.value)
        if size == 0 or {len(a) for a in (self.feature, self.threshold, self.left, self.right)} != {size}:
            raise ValueError("a tree's arrays differ in length")
        for node, children in enumerate(zip(self.left, self.right, strict=True)):
            if children != (LEAF, LEAF) and not all(node < child < size for child in children):
                raise ValueError(f"node {node} has a child that does not come after it")
        if not np.isfinite([*self.value, *self.threshold]).all():
            raise ValueError("a tree's values and thresholds must be finite")

    def contributions(self, values: np.ndarray) -> np.ndarray:
        """Reward less the root's, shared out over features [responses, features]."""
        feature, left, right = np.array(self.feature), np.array(self.left), np.array(self.right)
        threshold, value = np.array(self.threshold), np.array(self.value)
        shared = np.zeros(values.shape)
        rows, node = np.arange(len(values)), np.zeros(len(values), dtype=int)
        while len(rows := rows[left[node[rows]] != LEAF]):
            at = node[rows]
            # scikit-learn splits on single-precision values.
            goes_left = values[rows, feature[at]].astype(np.float32) <= threshold[at]
            below = np.where(goes_left, left[at], right[at])
            shared[rows, feature[at]] += value[below] - value[at]
            node[rows] = below
        return shared


@dataclass(frozen=True)
class TreeEnsemble:
    """The reward of one response type: the sum of its trees over features named `features`."""

    features: tuple[str, ...]
    trees: tuple[RegressionTree, ...]

    def __post_init__(self) -> None:
        """Raises ValueError where a tree splits on a feature that is not there."""
        for tree in self.trees:
            split = [f for f, child in zip(tree.feature, tree.left, strict=True) if child != LEAF]
            if any(not 0 <= f < len(self.features) for f in split):
                raise ValueError("a tree splits on an unknown feature")

    def contributions(self, values: np.ndarray) -> np.ndarray:
        """[responses, features]; rows with a NaN are NaN."""
        total = np.zeros(values.shape)
        for tree in self.trees:
            total += tree.contributions(values)
        total[np.isnan(values).any(axis=1)] = np.nan
        return total


def boost(
    values: np.ndarray,
    better: np.ndarray,
    worse: np.ndarray,
    offsets: np.ndarray,
    features: Sequence[str],
    *,
    trees: int,
    depth: int,
    rate: float,
    seed: int,
) -> TreeEnsemble:
    """Fit to pairs whose loss is max(0, offset - (reward of better - reward of worse)).

    `values` [responses, features], `better` and `worse` rows of it and `offsets`, each [pairs].
    Stops early when every pair is ranked with its margin.
    """
    from sklearn.tree import DecisionTreeRegressor

    reward = np.zeros(len(values))
    grown: list[RegressionTree] = []
    for number in range(trees):
        active = offsets - (reward[better] - reward[worse]) > 0.0
        if not active.any():
            break
        ups = np.bincount(better[active], minlength=len(values))
        downs = np.bincount(worse[active], minlength=len(values))
        model = DecisionTreeRegressor(max_depth=depth, min_samples_leaf=5, random_state=seed + number)
        model.fit(values, (ups - downs).astype(np.float64))
        tree = _tree(model.tree_, rate)
        reward += tree.contributions(values).sum(axis=1)
        grown.append(tree)
    return TreeEnsemble(tuple(features), tuple(grown))


def _tree(fitted: object, rate: float) -> RegressionTree:
    """Plain arrays of a fitted scikit-learn tree, values times the rate."""
    arrays = {name: getattr(fitted, name) for name in ("feature", "threshold", "value")}
    left, right = fitted.children_left, fitted.children_right  # type: ignore[attr-defined]
    return RegressionTree(
        tuple(arrays["feature"].tolist()),
        tuple(arrays["threshold"].tolist()),
        tuple(left.tolist()),
        tuple(right.tolist()),
        tuple((rate * arrays["value"][:, 0, 0]).tolist()),
    )
