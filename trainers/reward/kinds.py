"""The kinds of terms that a reward is the sum of, those of the product's own."""

from __future__ import annotations

REWARD_MODEL = "reward_model"
RULE_BASED = "rule_based"
