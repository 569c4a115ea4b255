"""The settings of pre-training."""

from __future__ import annotations

from dataclasses import dataclass

from evals.values.ranges import NOT_NEGATIVE, POSITIVE, SHARE, check_ranges, whole


@dataclass
class PretrainConfig:
    block: int = 128  # tokens of one training row
    batch_size: int = 32  # rows
    epochs: float = 8.0  # passes over the text
    max_steps: int = 0  # 0: as many as the epochs take
    learning_rate: float = 3e-3  # at its highest
    warmup_share: float = 0.05  # of the steps, in which the learning rate rises
    weight_decay: float = 0.01  # of AdamW

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "pretrain",
            {
                "block batch_size": whole(1),
                "max_steps": whole(0),
                "epochs learning_rate": POSITIVE,
                "warmup_share": SHARE,
                "weight_decay": NOT_NEGATIVE,
            },
        )
