"""Limits on the KL and the entropy of an update's samples, and the way back when one is crossed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evals.values.errors import InputError
from trainers.rl.config import OnLimit, PPOConfig

LIMIT, ROLLBACKS = "control/limit", "control/rollbacks"  # in the metrics
MAX_ROLLBACKS = 3  # then the run ends where it was rolled back to
KL_FACTOR = 2.0  # what a rollback multiplies kl_coef by, so that the same way is not taken again


def has_limits(config: PPOConfig) -> bool:
    return config.kl_limit is not None or config.entropy_floor is not None


def rolls_back(config: PPOConfig) -> bool:
    return has_limits(config) and config.on_limit is OnLimit.ROLLBACK


def crossed_limit(metrics: Mapping[str, Any], config: PPOConfig) -> str | None:
    """The limit that an update's samples cross, in words; None where they cross none."""
    kl, entropy = metrics["objective/kl"], metrics["objective/entropy"]
    if config.kl_limit is not None and kl is not None and kl > config.kl_limit:
        return f"KL {kl:.3g} nats a response, more than kl_limit {config.kl_limit:g}"
    if config.entropy_floor is not None and entropy is not None and entropy < config.entropy_floor:
        return f"entropy {entropy:.3g} nats a token, less than entropy_floor {config.entropy_floor:g}"
    return None


def check_start(update: int, limit: str | None) -> None:
    """Raises InputError when the policy that training begins with crosses a limit: no policy is left to go to."""
    if limit is not None and update == 1:
        raise InputError(
            f"no update can be kept within the limits ({limit})",
            field="ppo.kl_limit, ppo.entropy_floor",
            fix="widen them, or lower the learning rate",
        )
