"""The settings of supervised fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass

from evals.values.ranges import POSITIVE, SHARE, check_ranges, whole


@dataclass
class SFTConfig:
    batch_size: int = 32  # demonstrations
    epochs: float = 3.0  # passes over the demonstrations
    learning_rate: float = 1e-3  # at its highest
    warmup_share: float = 0.05  # of the steps, in which the learning rate rises
    max_length: int = 128  # tokens of prompt and response; longer rows are cut and counted
    tokens_at_once: int = 0  # of a batch, in the model; 0: all. Changes memory and speed only

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "sft",
            {
                "batch_size max_length": whole(1),
                "tokens_at_once": whole(0),
                "epochs learning_rate": POSITIVE,
                "warmup_share": SHARE,
            },
        )
