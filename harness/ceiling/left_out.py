"""What each proposition buys: the reward without it, the other weights as they are and fitted again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evals.rules.features import Features, features
from evals.values.conversation import ResponseType
from evals.values.errors import InputError
from harness.ceiling.predict import Asking, CeilingSetting, as_row
from harness.gate.rewards import LiveReward, RewardSide
from harness.subjects.sample_table import by_prompt
from trainers.reward.ceiling import SHARES, Tilted
from trainers.reward.ceiling_limits import difference
from trainers.reward.examples import FitExamples
from trainers.reward.kinds import RULE_BASED
from trainers.reward.reward import Breakdown
from trainers.reward.reward_weights import RewardWeights
from trainers.reward.rule_effects import without_feature
from trainers.reward.weights import fit_weights
from trainers.reward.weights_config import WeightsConfig


@dataclass(frozen=True)
class LeftOut:
    """`kept` and `refitted` are what the proposition buys in each share: with it less without it."""

    proposition: str
    kept: dict[str, Any]
    refitted: dict[str, Any] | None

    def as_json(self) -> dict[str, Any]:
        return {"proposition": self.proposition, "kept": self.kept, "refitted": self.refitted}


def left_out(
    setting: CeilingSetting, side: RewardSide, asking: Asking, live: LiveReward | None
) -> list[LeftOut]:
    """Of each proposition with a weight, the one that moves F1 the most first; empty for a reward without rules."""
    if side.rulebook is None or not side.breakdown.contributions:
        return []
    names = [
        name
        for name in side.rulebook.propositions
        if name in side.breakdown.contributions and np.nan_to_num(side.breakdown.contributions[name]).any()
    ]
    again = _Refits(setting, side, live) if live is not None and live.refit is not None else None
    whole = Tilted(setting.table, asking.rewards, setting.learning.beta)
    found = []
    for name in names:
        kept = side.breakdown.total - np.nan_to_num(side.breakdown.contributions[name])
        refitted = None if again is None else again.without(name)
        found.append(
            LeftOut(
                name,
                _bought(setting, whole, kept),
                None if refitted is None else _bought(setting, whole, refitted),
            )
        )
    return sorted(found, key=lambda one: -abs(one.kept[SHARES[-1]]["value"] or 0.0))


def _bought(setting: CeilingSetting, whole: Tilted, total: np.ndarray) -> dict[str, Any]:
    rewards = setting.learning.rewards(setting.samples, Breakdown(total, {}))
    scored = np.isfinite(whole.rewards)  # a candidate's may be fewer than the reward's own
    without = Tilted(setting.table, np.where(scored, rewards, np.nan), setting.learning.beta)
    if (scored & ~np.isfinite(rewards)).any():
        whole = replace(whole, rewards=np.where(np.isfinite(rewards), whole.rewards, np.nan))
    return {name: as_row(difference(without, whole, name, setting.draws, setting.limits)) for name in SHARES}


class _Refits:
    """Rewards of the samples with weights that are fitted without a proposition."""

    def __init__(self, setting: CeilingSetting, side: RewardSide, live: LiveReward) -> None:
        assert live.refit is not None and side.rulebook is not None
        self.samples, self.side, self.live = setting.samples, side, live
        self.examples: Sequence[FitExamples]
        self.config: WeightsConfig
        self.examples, self.config = live.refit()
        self.features = {
            kind: features(side.rulebook, kind, grades, side.asked.get(kind))
            for kind, grades in side.grades.items()
        }
        rules = side.breakdown.terms.get(RULE_BASED, np.zeros(len(side.breakdown)))
        self.others = side.breakdown.total - rules
        self.rules = rules

    def without(self, name: str) -> np.ndarray | None:
        """[samples]; None where the weights cannot be fitted without it."""
        total = self.others + self.rules
        for kind, values in self.features.items():
            if name not in values.names:
                continue
            weights = self._fit(kind, name)
            if weights is None:
                return None
            rows = self.samples.rows(kind)
            total[rows] = self.others[rows] + weights.contributions(kind, _without(values, name)).sum(axis=1)
        return total

    def _fit(self, kind: ResponseType, name: str) -> RewardWeights | None:
        group = next((e for e in self.examples if e.response_type is kind), None)
        if group is None:
            return None
        try:
            return fit_weights(
                [without_feature(group, name)], self.live.rulebook, replace(self.config, holdout=0.0)
            )
        except InputError:
            return None


def _without(values: Features, name: str) -> Features:
    keep = [column for column, other in enumerate(values.names) if other != name]
    return Features(tuple(values.names[c] for c in keep), values.values[:, keep], values.reasons)


def rewards_of(setting: CeilingSetting, side: RewardSide) -> Asking:
    """A side's rewards as learned, and its terms, by prompt."""
    index = setting.samples.index
    parts = {name: by_prompt(index, values) for name, values in side.breakdown.terms.items()}
    return Asking(side.source, setting.learning.rewards(setting.samples, side.breakdown), parts)
