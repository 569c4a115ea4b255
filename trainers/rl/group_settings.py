"""What GRPO and RLOO ask of the settings that they share with PPO; apart from their trainers, which load TRL."""

from __future__ import annotations

from evals.values.errors import InputError
from trainers.rl.config import Algorithm, PPOConfig, check_algorithm


def check_settings(algorithm: Algorithm, config: PPOConfig, group_size: int) -> None:
    """Raises InputError for what is asked of PPO and would be silently left out here."""
    check_algorithm(algorithm, config)
    if group_size < 2 or config.batch_size % group_size:
        raise InputError(
            f"is {group_size}; groups of it must fill batch_size {config.batch_size}",
            field="group_size",
            fix="choose a divisor of batch_size of at least 2",
        )
    if config.batch_size % min(config.micro_batch_size, config.batch_size):
        raise InputError(
            f"is {config.micro_batch_size}, which does not divide batch_size {config.batch_size}",
            field="ppo.micro_batch_size",
            fix="choose a divisor of batch_size",
        )
