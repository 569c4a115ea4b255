"""The settings of a reward model."""

from __future__ import annotations

from dataclasses import dataclass

from evals.values.ranges import NOT_NEGATIVE, POSITIVE, SHARE, check_ranges, whole


@dataclass
class RewardModelConfig:
    batch_size: int = 32  # comparisons
    epochs: float = 2.0  # passes over the comparisons
    learning_rate: float = 1e-3  # at its highest
    warmup_share: float = 0.05  # of the steps, in which the learning rate rises
    max_length: int = 128  # tokens of prompt and response; longer rows are left out and counted
    tokens_at_once: int = 0  # of a batch, in the model; 0: all. Changes memory and speed only
    center_coef: float = 0.01  # pulls the mean reward to zero (arXiv 2312.09244)

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "reward_model",
            {
                "batch_size max_length": whole(1),
                "tokens_at_once": whole(0),
                "epochs learning_rate": POSITIVE,
                "warmup_share": SHARE,
                "center_coef": NOT_NEGATIVE,
            },
        )
