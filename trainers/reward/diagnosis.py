"""Everything that can be said of a fitted reward before any reinforcement learning, by response type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from evals.rules.rulebook import Rulebook
from evals.values.conversation import ResponseType
from trainers.reward.ablations import Ablation, ablations
from trainers.reward.examples import FitExamples
from trainers.reward.ranking import (
    RankingError,
    WorstPair,
    contributions,
    ranking_errors,
    variance_shares,
    worst_pairs,
)
from trainers.reward.reward_weights import RewardWeights
from trainers.reward.rule_effects import (
    CurvePoint,
    RuleEffect,
    doubling_sizes,
    learning_curve,
    refitted_without,
    rule_effects,
)
from trainers.reward.weights_config import WeightsConfig

REWARD_MODEL = "reward_model"


@dataclass(frozen=True)
class Diagnosis:
    """What the reward of one response type does on held-out prompts.

    `errors` by reward (rm, rm+rbr, rbr); `variance` has the share of the reward model and of each feature
    in the reward's variance among responses to one prompt, adding up to 1.
    """

    held: FitExamples
    errors: dict[str, RankingError]
    effects: list[RuleEffect]
    variance: dict[str, float]
    curve: list[CurvePoint]
    ablations: list[Ablation]
    worst: list[WorstPair]

    @property
    def response_type(self) -> ResponseType:
        return self.held.response_type

    @property
    def error(self) -> RankingError:
        """Of the whole reward: with the reward model, where there is one."""
        return self.errors["rm+rbr"] if "rm+rbr" in self.errors else self.errors["rbr"]


def diagnose(
    fit: FitExamples,
    held: FitExamples,
    rulebook: Rulebook,
    weights: RewardWeights,
    config: WeightsConfig,
    *,
    refit: bool = True,
    orders: int = 5,
    worst: int = 10,
    draws: int = 2000,
    clusters: Mapping[str, str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Diagnosis:
    """Judge weights that were fitted on `fit` on the prompts of `held`, of the same response type.

    `refit` fits anew without each feature; `orders` is that of the learning curve, 0 leaves it out.
    `clusters` is what the ranking errors' intervals count (see there). `progress` is told of each of the STEPS.
    """
    tell = progress or (lambda steps: None)
    without = refitted_without(fit, held, rulebook, config) if refit else None
    effects = rule_effects(held, weights, without)
    tell(1)
    sizes = doubling_sizes(len(set(fit.prompts))) if orders else []
    curve = learning_curve(fit, held, rulebook, config, sizes, orders=orders)
    tell(1)
    compared = ablations(fit, held, rulebook, weights, config, draws=draws)
    tell(1)
    return Diagnosis(
        held,
        ranking_errors(held, weights, draws=draws, seed=config.seed, clusters=clusters),
        effects,
        _variance(held, weights),
        curve,
        compared,
        worst_pairs(held, weights, worst),
    )


STEPS = 3


def _variance(held: FitExamples, weights: RewardWeights) -> dict[str, float]:
    parts = contributions(held, weights)
    terms = {REWARD_MODEL: held.reward_model}
    terms |= {name: parts[:, column] for column, name in enumerate(held.features.names)}
    return variance_shares(held.prompts, terms)
