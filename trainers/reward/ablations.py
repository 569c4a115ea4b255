"""The same reward with something else in place of its fitted weights: the paper's ablations, on one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from evals.rules.rulebook import Rulebook
from trainers.reward.examples import FitExamples
from trainers.reward.ranking import ErrorChange, RankingError, error_change, ranking_error, rewards
from trainers.reward.reward_weights import RewardWeights
from trainers.reward.weights import fit_weights
from trainers.reward.weights_config import FitMethod, WeightsConfig

FITTED = "fitted"


@dataclass(frozen=True)
class Ablation:
    """Ranking error of one variant on held-out prompts, and by how much it is above the fitted reward's."""

    name: str
    error: RankingError
    change: ErrorChange


def variants(config: WeightsConfig, has_reward_model: bool) -> dict[str, WeightsConfig]:
    """The fits to compare by name; each judged as reward model + rules, `rbr_alone` as rules."""
    every = replace(config, holdout=0.0)
    found = {
        "fixed_1": replace(every, method=FitMethod.FIXED, fixed=1.0),
        "fixed_10": replace(every, method=FitMethod.FIXED, fixed=10.0),
        "boosted": replace(every, method=FitMethod.BOOSTED),
        "hinge": replace(every, method=FitMethod.HINGE),
        "sign_constraints": replace(every, method=FitMethod.HINGE, sign_constraints=True),
    }
    if has_reward_model:
        found["rbr_alone"] = replace(every, reward_model=False)
    fitted = replace(every, reward_model=has_reward_model)
    return {name: variant for name, variant in found.items() if variant != fitted}


def ablations(
    fit: FitExamples,
    held: FitExamples,
    rulebook: Rulebook,
    weights: RewardWeights,
    config: WeightsConfig,
    *,
    draws: int = 2000,
) -> list[Ablation]:
    """The fitted reward first, then the reward model alone and every variant, judged on `held`.

    The variants are fitted on all of `fit`. Without a reward model (all scores 0) it is left out.
    """
    known = held.reward_model[np.isfinite(held.reward_model)]
    has_model = bool(np.any(known != 0.0))
    fitted = rewards(held, weights)["rm+rbr"]
    totals: dict[str, np.ndarray] = {FITTED: fitted} | ({"rm_alone": held.reward_model} if has_model else {})
    for name, variant in variants(config, has_model).items():
        made = rewards(held, fit_weights([fit], rulebook, variant))
        totals[name] = made["rbr" if name == "rbr_alone" else "rm+rbr"]
    return _compared(held, totals, config.seed, draws)


def _compared(held: FitExamples, totals: Mapping[str, np.ndarray], seed: int, draws: int) -> list[Ablation]:
    place = held.prompts, held.rank
    return [
        Ablation(
            name,
            ranking_error(*place, total, draws=draws, seed=seed),
            error_change(*place, total, totals[FITTED], draws=draws, seed=seed),
        )
        for name, total in totals.items()
    ]
