"""What each rule does for the ranking, and what more data would do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evals.rules.features import Features
from evals.rules.rulebook import Rulebook
from trainers.reward.examples import FitExamples, held_out, ordered_pairs
from trainers.reward.ranking import contributions, ideal_pairs, ranking_error, rewards
from trainers.reward.reward_weights import RewardWeights
from trainers.reward.weights import fit_weights
from trainers.reward.weights_config import WeightsConfig


@dataclass(frozen=True)
class RuleEffect:
    """One feature's part in ranking ideal responses above others.

    `gap` is the feature's mean difference ideal - other over pairs, `contribution` that of its part of
    the reward: weight times gap, where the reward is linear (trees have no weight, NaN). `error_without`
    is the ranking error when its part of the reward is taken away, `error_refitted` when everything else
    is fitted anew without it; NaN if not asked. Without a pair all of them are NaN but the weight.
    """

    name: str
    weight: float
    gap: float
    contribution: float
    error_without: float
    error_refitted: float


def rule_effects(
    examples: FitExamples, weights: RewardWeights, refit: Callable[[str], float] | None = None
) -> list[RuleEffect]:
    """Effects of all features, the largest contribution first; `refit` gives `error_refitted`.

    Leaving out a proposition leaves the class features as they are: a rule that only the classes
    need shows in their contributions.
    """
    scored = examples.select(examples.scored)
    parts = contributions(scored, weights)
    total = rewards(scored, weights)["rm+rbr"]
    ideal, other = ideal_pairs(scored.prompts, scored.rank)
    gaps = _mean(scored.features.values[ideal] - scored.features.values[other])
    shares = _mean(parts[ideal] - parts[other])
    effects = []
    for column, name in enumerate(scored.features.names):
        weight = weights.by_type.get(scored.response_type, {}).get(name, float("nan"))
        without = _error(scored, total - parts[:, column])
        refitted = refit(name) if refit is not None else float("nan")
        effects.append(RuleEffect(name, weight, gaps[column], shares[column], without, refitted))
    return sorted(effects, key=lambda e: (-np.nan_to_num(abs(e.contribution)), e.name))


def refitted_without(
    fit: FitExamples, held: FitExamples, rulebook: Rulebook, config: WeightsConfig
) -> Callable[[str], float]:
    """The `refit` of `rule_effects`: fit on all of `fit` without a feature, ranking error on `held`."""

    def refit(name: str) -> float:
        return _error_after(without_feature(fit, name), without_feature(held, name), rulebook, config)

    return refit


@dataclass(frozen=True)
class CurvePoint:
    """Ranking error on held-out prompts of weights fitted on `prompts` prompts, one value an order."""

    prompts: int
    errors: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.errors))


def learning_curve(
    fit: FitExamples,
    held: FitExamples,
    rulebook: Rulebook,
    config: WeightsConfig,
    sizes: Sequence[int],
    *,
    orders: int = 5,
) -> list[CurvePoint]:
    """Ranking error on `held` by number of fitting prompts.

    Each of the `orders` puts the prompts of `fit` in a seeded order of its own and fits on the first ones:
    sizes are nested within an order. A size that has no ordered pair to fit on is left out.
    """
    prompts = sorted(set(fit.prompts))
    curve = []
    for size in sorted({min(size, len(prompts)) for size in sizes}):
        # All prompts are the same set in every order.
        seeds = range(config.seed, config.seed + (orders if size < len(prompts) else 1))
        errors = [
            _error_after(_first(fit, prompts, size, seed), held, rulebook, config)
            for seed in seeds
            if _has_pair(_first(fit, prompts, size, seed))
        ]
        if errors:
            curve.append(CurvePoint(size, tuple(errors)))
    return curve


def doubling_sizes(prompts: int, least: int = 4, most: int = 7) -> list[int]:
    """At most `most` sizes, each twice the one before, that end at `prompts`."""
    sizes = [prompts // 2**k for k in range(most)]
    return sorted({size for size in sizes if size >= min(least, prompts)})


def _first(fit: FitExamples, prompts: Sequence[str], size: int, seed: int) -> FitExamples:
    chosen = held_out(prompts, size / len(prompts), seed)
    return fit.select(np.array([id in chosen for id in fit.prompts], dtype=bool))


def _has_pair(part: FitExamples) -> bool:
    scored = part.select(part.scored)
    return len(ordered_pairs(scored.prompts, scored.rank)[0]) > 0


def _error_after(part: FitExamples, held: FitExamples, rulebook: Rulebook, config: WeightsConfig) -> float:
    weights = fit_weights([part], rulebook, replace(config, holdout=0.0))
    return _error(held, rewards(held, weights)["rm+rbr"])


def _mean(pairs: np.ndarray) -> list[float]:
    """Column means [features] of [pairs, features]; NaN where there is no pair."""
    return (pairs.mean(axis=0) if len(pairs) else np.full(pairs.shape[1], np.nan)).tolist()


def _error(examples: FitExamples, total: np.ndarray) -> float:
    return ranking_error(examples.prompts, examples.rank, total, draws=2).value


def without_feature(examples: FitExamples, name: str) -> FitExamples:
    """The examples as if the feature did not exist."""
    keep = [column for column, other in enumerate(examples.features.names) if other != name]
    names = tuple(examples.features.names[column] for column in keep)
    return replace(
        examples, features=Features(names, examples.features.values[:, keep], examples.features.reasons)
    )
